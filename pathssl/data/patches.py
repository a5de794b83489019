"""Draws -> pixels: reads patches through a bounded set of open slides."""

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from pathssl.data.sampling import Draws, Sampler
from pathssl.slides.slide import Slide, SlideError

log = logging.getLogger(__name__)
_MAX_REDRAWS = 20
_RETRY_S = (0.5, 2.0, 8.0)


@dataclass
class Patches:
    """n patches: pixels (n, P, P, 3) uint8; where they lie; and those that could not be decoded, as (index, slide, reason)."""

    pixels: np.ndarray
    draws: Draws
    replaced: list[tuple[int, str, str]] = field(default_factory=list)


class PatchReader:
    """Reads the patches of a run by number. Keeps at most `open_slides` slides open (least recently used leave first)."""

    def __init__(self, sampler: Sampler, *, seed: int, open_slides: int):
        self.sampler, self.seed, self.open_slides = sampler, seed, open_slides
        self._open: OrderedDict[int, Slide] = OrderedDict()

    def read(self, indices: np.ndarray, out: np.ndarray | None = None) -> Patches:
        """Patches number `indices`, into `out` where given.

        A patch that cannot be decoded is replaced by the next draw of its own counter, and recorded; a fault that may pass (network,
        file server) is retried and then raised, so that the run stops and can be resumed.
        """
        size = self.sampler.patch_px
        pixels = np.empty((len(indices), size, size, 3), np.uint8) if out is None else out
        draws = self.sampler.sample(self.seed, indices)
        replaced = []
        for row, index in enumerate(indices):
            redraw = 0
            while True:
                k = int(draws.slide[row])
                try:
                    pixels[row] = self._pixels(k, int(draws.x0[row]), int(draws.y0[row]), float(draws.mpp[row]))
                    break
                except SlideError as error:
                    self._close(k)
                    redraw += 1
                    replaced.append((int(index), self.sampler.index.paths[k], str(error)))
                    if redraw > _MAX_REDRAWS:
                        raise SlideError(
                            f"Patch {index} could not be read in {redraw} draws; the last reason: {error}"
                        ) from error
                    other = self.sampler.sample(self.seed, np.array([index]), redraw)
                    for name in ("slide", "x0", "y0", "mpp", "views_seed"):
                        getattr(draws, name)[row] = getattr(other, name)[0]
        return Patches(pixels, draws, replaced)

    def _pixels(self, k: int, x0: int, y0: int, mpp: float) -> np.ndarray:
        for wait_s in (*_RETRY_S, None):
            try:
                return self._slide(k).read(x0, y0, mpp, self.sampler.patch_px)
            except OSError as error:
                self._close(k)
                if wait_s is None:
                    raise
                log.warning("%s: %s; trying again in %g s", self.sampler.index.paths[k], error, wait_s)
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
