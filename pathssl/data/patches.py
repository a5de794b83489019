"""Draws -> pixels: reads patches through a bounded set of open slides."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pathssl.data.sampling import Draws, Sampler
from pathssl.errors import UserError
from pathssl.slides.slide import Slide, SlideError

log = logging.getLogger(__name__)
_MAX_REDRAWS = 20  # of a patch that cannot be read
_MAX_TURNED_DOWN = 2000  # of its draws, by the filter
_RETRY_S = (0.5, 2.0, 8.0)


class Unreachable(RuntimeError):
    """A slide that cannot be read now, though its file may be sound: the run stops, and can be resumed."""


@dataclass
class Patches:
    """n patches: pixels (n, P, P, 3) uint8; where they lie; and those that could not be decoded, as (index, slide, reason)."""

    pixels: np.ndarray
    draws: Draws
    replaced: list[tuple[int, str, str]] = field(default_factory=list)


class PatchReader:
    """Reads the patches of a run by number. Keeps at most `open_slides` slides open (least recently used leave first).

    accepts: says of pixels (P, P, 3) whether a patch is taken; None: all are.
    broken: {(index, redraw): reason} of patches that are not even to be tried, because reading them ends the process.
    mark: two numbers that always say which (index, redraw) is being read; one is below 0 where it is none.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        seed: int,
        open_slides: int,
        accepts: Callable[[np.ndarray], bool] | None = None,
    ):
        self.sampler, self.seed, self.open_slides, self.accepts = sampler, seed, open_slides, accepts
        self.broken: dict[tuple[int, int], str] = {}
        self.mark: np.ndarray = np.zeros(2, np.int64)
        self._open: OrderedDict[int, Slide] = OrderedDict()

    def read(self, indices: np.ndarray, out: Sequence[np.ndarray] | None = None, *, singly: bool = False) -> Patches:
        """Patches number `indices`, into the n arrays (P, P, 3) of `out` where given.

        Patches of one region are read together, unless `singly`. A patch that cannot be decoded, or that is not accepted, is replaced by
        the next draw of its own counter; the former is recorded. A fault that may pass (network, file server) is retried and then raised,
        so that the run stops and can be resumed.
        """
        size = self.sampler.patch_px
        pixels = np.empty((len(indices), size, size, 3), np.uint8) if out is None else out
        draws = self.sampler.sample(self.seed, indices)
        indices, replaced = [int(index) for index in indices], []
        groups = _together(draws)
        if self.sampler.index.by_url:
            places = [(draws.slide[rows[0]], draws.x0[rows], draws.y0[rows], draws.mpp[rows[0]]) for rows in groups]
            self.sampler.index.bring(
                [(int(k), x0.tolist(), y0.tolist(), float(mpp)) for k, x0, y0, mpp in places], size
            )
        for rows in groups:
            read = len(rows) > 1 and not singly and self._read_region(indices, draws, rows, pixels)
            for row in rows:
                self._settle(indices[row], draws, row, pixels[row], replaced, is_read=read)
        self._at(-1, -1)
        return Patches(pixels, draws, sorted(replaced, key=lambda fault: fault[0]))

    def turns_down(self, draws: Draws, row: int) -> bool:
        """Whether a patch can be read and is not accepted."""
        pixels = np.empty((self.sampler.patch_px, self.sampler.patch_px, 3), np.uint8)
        k = int(draws.slide[row])
        try:
            self._pixels(k, [int(draws.x0[row])], [int(draws.y0[row])], float(draws.mpp[row]), [pixels])
        except SlideError:
            self._close(k)
            return False
        return self.accepts is not None and not self.accepts(pixels)

    def _read_region(self, indices: list[int], draws: Draws, rows: list[int], pixels: Sequence[np.ndarray]) -> bool:
        """False where some part of the region cannot be decoded: then each patch has to be looked at by itself, so that which ones are
        replaced does not depend on which were asked for together."""
        if self.broken and any((indices[row], 0) in self.broken for row in rows):
            return False
        self._at(indices[rows[0]], -1)  # no patch is to blame for what happens to a region
        k, mpp = int(draws.slide[rows[0]]), float(draws.mpp[rows[0]])
        try:
            self._pixels(k, draws.x0[rows].tolist(), draws.y0[rows].tolist(), mpp, [pixels[row] for row in rows])
        except SlideError:
            self._close(k)
            return False
        return True

    def _settle(self, index: int, draws: Draws, row: int, pixels: np.ndarray, replaced: list, *, is_read: bool) -> None:
        """Reads patch `index` into `pixels`, unless it is there; where it has to be replaced, `draws` and `replaced` say so."""
        failed = turned_down = 0
        while True:
            redraw, k = failed + turned_down, int(draws.slide[row])
            try:
                if not is_read:
                    self._at(index, redraw)
                    if (index, redraw) in self.broken:
                        raise SlideError(self.broken[index, redraw])
                    self._pixels(k, [int(draws.x0[row])], [int(draws.y0[row])], float(draws.mpp[row]), [pixels])
                is_read = False
                if self.accepts is None or self.accepts(pixels):
                    return
                turned_down += 1
            except SlideError as error:
                self._close(k)
                name = self.sampler.index.paths[k]
                last = str(error).removeprefix(f"{self.sampler.index.root / name}: ")
                replaced.append((index, name, last))
                failed += 1
            if failed > _MAX_REDRAWS:
                raise SlideError(f"Patch {index} could not be read in {failed} draws; the last reason: {name}: {last}")
            if turned_down == _MAX_TURNED_DOWN:
                raise UserError(
                    f"{self.accepts} turned down {turned_down:,} draws for patch {index}: ask for less, or take patch_filter=none."
                )
            draws.overwrite(row, self.sampler.sample(self.seed, np.array([index]), redraw + 1))

    def _at(self, index: int, redraw: int) -> None:
        self.mark[0], self.mark[1] = index, redraw

    def _pixels(self, k: int, x0: list[int], y0: list[int], mpp: float, out: list[np.ndarray]) -> None:
        for wait_s in (*_RETRY_S, None):
            try:
                return self._slide(k).read_patches(x0, y0, mpp, out)
            except OSError as error:
                self._close(k)
                name = self.sampler.index.paths[k]
                if wait_s is None:
                    raise Unreachable(
                        f"{name} cannot be read now, also after {len(_RETRY_S)} more attempts: {error}. When the slide is back, repeat the "
                        "command: the run goes on from its last checkpoint. (A run without the slide is another run.)"
                    ) from error
                log.warning("%s: %s; trying again in %g s", name, error, wait_s)
                time.sleep(wait_s)
        raise AssertionError("unreachable")

    def _slide(self, k: int) -> Slide:
        if k in self._open:
            self._open.move_to_end(k)
        else:
            self._open[k] = self.sampler.index.open(k)
            while len(self._open) > self.open_slides:
                self._open.popitem(last=False)[1].close()
        return self._open[k]

    def _close(self, k: int) -> None:
        if k in self._open:
            self._open.pop(k).close()

    def close(self) -> None:
        for k in list(self._open):
            self._close(k)


def _together(draws: Draws) -> list[list[int]]:
    """The rows of `draws` region by region, those of a slide after one another, so that each slide is opened once."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row, place in enumerate(zip(draws.slide.tolist(), draws.region.tolist(), strict=True)):
        groups.setdefault(place, []).append(row)
    return [groups[place] for place in sorted(groups)]
