"""Which patch is the i-th of a run: a pure function of (seed, i)."""

from dataclasses import dataclass, fields

import numpy as np

from pathssl.data.frame import Frame
from pathssl.data.regions import Region, shared, span
from pathssl.errors import UserError
from pathssl.seeding import words
from pathssl.slides.slide import COARSER
from pathssl.slides.slide_index import SlideIndex

_TRIES = 32  # positions on a slide before another slide is drawn, so that one sparse slide cannot stall a run
_SLIDES = 2048  # that are tried: then there is no such position
_MEMBER_TRIES = 8  # positions in a region before they are moved towards its anchor
_AT_ONCE = 128  # positions that cost about what a call does


@dataclass(frozen=True)
class Draws:
    """Patches by position: arrays of one length; x0, y0 are the top-left corner in level-0 pixels, mpp in um per pixel.

    Patches of the same `region` lie near one another on a slide and are to be read together.
    """

    slide: np.ndarray
    x0: np.ndarray
    y0: np.ndarray
    mpp: np.ndarray
    views_seed: np.ndarray
    region: np.ndarray

    def __len__(self) -> int:
        return len(self.slide)

    def overwrite(self, row: int, other: "Draws") -> None:
        """Makes patch `row` the first of `other`, in place."""
        for column in fields(self):
            getattr(self, column.name)[row] = getattr(other, column.name)[0]


class Sampler:
    """Draws patches of `patch_px` pixels: magnification by weight, slide uniformly, position uniformly over its tissue.

    slides: the rows of the index to draw from. mpp, weight: the magnifications and their mixing weights.
    A patch has at least `min_tissue` of tissue, by the index's grid. batch_size: the patches of a step, over all processes.
    region: how many patches share a region; see `regions`.
    """

    def __init__(
        self,
        index: SlideIndex,
        *,
        slides: np.ndarray,
        mpp: list[float],
        weight: list[float],
        patch_px: int,
        min_tissue: float,
        batch_size: int,
        region: Region,
    ):
        if len(mpp) != len(weight) or not mpp or min(weight) < 0 or sum(weight) <= 0 or min(mpp) <= 0:
            raise UserError(
                f"magnification has mpp={list(mpp)} and weight={list(weight)}: give one weight to each mpp, all mpp above 0, and at "
                "least one weight above 0."
            )
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: a batch has at least 1 patch.")
        self.index, self.patch_px, self.min_tissue = index, patch_px, min_tissue
        self.batch_size, self.region = batch_size, region
        self.mpp = np.asarray(mpp, np.float64)
        cumulative = np.cumsum(np.asarray(weight, np.float64))
        self._cumulative_weight = cumulative / cumulative[-1]  # exactly 1 from the last weight above 0 on
        # For each magnification, the slides scanned finely enough for it.
        self.slides = [slides[index.mpp[slides] <= COARSER * m] for m in self.mpp]
        for m, usable, w in zip(self.mpp, self.slides, weight, strict=True):
            if w > 0 and len(usable) == 0:
                finest = index.mpp[slides].min() if len(slides) else float("nan")
                raise UserError(
                    f"No slide is scanned finely enough for {m:g} um per pixel: the finest of {len(slides)} has {finest:g}. "
                    "Choose a coarser magnification=..., such as 10x or 5x."
                )
        self._usable = np.concatenate(self.slides)
        self._usable_count = np.array([len(usable) for usable in self.slides])
        self._usable_start = np.cumsum(self._usable_count) - self._usable_count

    @property
    def chunk_batches(self) -> int:
        """Batches that share regions, and are best read together."""
        return self.region.together

    def sample(self, seed: int, indices: np.ndarray, redraw: int = 0) -> Draws:
        """The patches number `indices` of the run with this seed. `redraw` counts replacements of a patch that cannot be read; these
        are drawn by themselves."""
        indices = np.array(indices, np.int64)
        if self.region.patches == 1 or redraw:
            slide, corner, mpp, spare = self._single(seed, "patch", indices, redraw)
            region = indices if self.region.patches == 1 else -1 - indices
        else:
            slide, corner, mpp, spare, region = self._from_regions(seed, indices)
        views_seed = (spare[:, 0] << np.uint64(32)) | spare[:, 1]
        return Draws(slide, corner[:, 0].copy(), corner[:, 1].copy(), mpp, views_seed, region)

    def _single(self, seed: int, purpose: str, counters: np.ndarray, redraw: int = 0) -> tuple[np.ndarray, ...]:
        """slide (N,), corner (N, 2) as x0 and y0, mpp (N,) of patches drawn one by one; and (N, 2) random words that they do not use."""
        slide, corner = np.empty(len(counters), np.int64), np.empty((len(counters), 2), np.int64)
        magnification = spare = frame = None
        pending = np.arange(len(counters))
        for nth_slide in range(_SLIDES):
            tries = 0
            while tries < _TRIES:
                is_new_slide, tries = tries == 0, _more(tries, len(pending), _TRIES)
                bits = _blocks(seed, purpose, counters[pending], tries, (redraw << 16) + nth_slide)
                u = bits / 2**32
                if magnification is None:  # drawn once, so that rejections cannot shift the mix
                    magnification = np.searchsorted(self._cumulative_weight, u[:, 0, 0], side="right")
                    spare = bits[:, 0, 2:]
                if is_new_slide:
                    frame = self._on_a_slide(magnification[pending], u[:, 0, 1])
                found, there = frame.first_with_tissue(frame.around_cells(u[:, 1:, :3]), self.min_tissue)
                slide[pending[found]], corner[pending[found]] = frame.slide[found], there[found]
                if found.all():
                    return slide, corner, self.mpp[magnification], spare
                pending, frame = pending[~found], frame[~found]
        raise UserError(
            f"No position with {self.min_tissue:.0%} of tissue was found in {_SLIDES * _TRIES:,} draws at {self.mpp.tolist()} um per "
            f"pixel for patches of {self.patch_px} px: the tissue is smaller than the patches. Lower data.foreground.min_tissue, or "
            "choose a finer magnification."
        )

    def _on_a_slide(self, magnification: np.ndarray, u: np.ndarray) -> Frame:
        """On slides drawn uniformly from those that have these magnifications."""
        nth = self._usable_start[magnification] + (u * self._usable_count[magnification]).astype(np.int64)
        return Frame.of(self.index, self.patch_px, self._usable[nth], self.mpp[magnification])

    def _from_regions(self, seed: int, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """slide (N,), corner (N, 2), mpp (N,) of patches that share regions; (N, 2) words that they do not use; region (N,)."""
        region, member = shared(seed, indices, self.batch_size, self.region)
        numbers, which = np.unique(region, return_inverse=True)
        slide, corner, mpp, spare = self._single(seed, "region", numbers)
        frame = Frame.of(self.index, self.patch_px, slide, mpp)
        anchor = frame.in_level(corner)
        least, greatest = span(frame, anchor, self.region.width, spare / 2**32)
        frame, anchor, least, greatest = (of_region[which] for of_region in (frame, anchor, least, greatest))
        is_anchor = (member == 0)[:, None]
        least, greatest = np.where(is_anchor, anchor, least), np.where(is_anchor, anchor, greatest)
        corner, spare = self._between(seed, indices, frame, anchor, least, greatest)
        return frame.slide, corner, frame.mpp, spare, region

    def _between(
        self, seed: int, indices: np.ndarray, frame: Frame, anchor: np.ndarray, least: np.ndarray, greatest: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, 2) corners as x0 and y0, uniform between `least` and `greatest` (level pixels); and (N, 2) words that they do not use.

        Where several positions have too little tissue, the last is moved halfway to the anchor until it has enough, as the anchor does.
        """
        corner, pending, spare = np.empty((len(indices), 2), np.int64), np.arange(len(indices)), None
        for tries in (_more(0, len(indices), _MEMBER_TRIES), _MEMBER_TRIES):
            bits = _blocks(seed, "patch", indices[pending], tries)
            spare = bits[:, 0, 2:] if spare is None else spare
            tried = least[:, None] + np.floor(bits[:, 1:, :2] / 2**32 * (greatest - least + 1)[:, None])
            if tries == _MEMBER_TRIES:
                offset = tried[:, -1:] - anchor[:, None]
                halvings = 1 + np.arange(
                    int(np.abs(offset).max(initial=0)).bit_length()
                )  # until nothing is left of the longest
                tried = np.concatenate([tried, anchor[:, None] + np.trunc(offset / 2.0 ** halvings[:, None])], axis=1)
            found, there = frame.first_with_tissue(tried, self.min_tissue)
            corner[pending[found]] = there[found]
            if found.all():
                break
            pending, frame, anchor, least, greatest = (
                of_patch[~found] for of_patch in (pending, frame, anchor, least, greatest)
            )
        return corner, spare


def _more(tries: int, patches: int, most: int) -> int:
    """How many positions of each of so many patches to look at, where the first `tries` had too little tissue.

    The first that has enough counts, so that this number changes how long it takes and nothing else.
    """
    return min(most, max(1, 4 * tries, _AT_ONCE // max(patches, 1)))


def _blocks(seed: int, purpose: str, counters: np.ndarray, tries: int, attempt: int = 0) -> np.ndarray:
    """(N, 1 + tries, 4) random 32-bit words: what each of the counters draws once (of a slide), and for each position that is tried on it.

    Once: magnification, slide, and two to spare. A position: a cell and a point in it, or a point in a region.
    """
    return words(seed, purpose, counters, 4 * (1 + tries), attempt).reshape(-1, 1 + tries, 4)
