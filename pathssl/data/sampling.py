"""Which patch is the i-th of a run: a pure function of (seed, i)."""

from dataclasses import dataclass, fields

import numpy as np

from pathssl.data.attempts import blocks, more
from pathssl.data.distinct import Distinct
from pathssl.data.frame import Frame
from pathssl.data.magnification import Magnification
from pathssl.data.places import Places
from pathssl.data.regions import Region, shared, span
from pathssl.errors import UserError
from pathssl.slides.slide_index import SlideIndex

_MEMBER_TRIES = 8  # positions in a region before they are moved towards its anchor


@dataclass(frozen=True)
class Draws:
    """Patches by position: arrays of one length; x0, y0 are the top-left corner in level-0 pixels, mpp in um per pixel.

    Patches of the same `region` lie near one another on a slide and are to be read together. redraw: how many draws of the patch came to
    nothing before this one.
    """

    slide: np.ndarray
    x0: np.ndarray
    y0: np.ndarray
    mpp: np.ndarray
    views_seed: np.ndarray
    region: np.ndarray
    redraw: np.ndarray

    def __len__(self) -> int:
        return len(self.slide)

    def overwrite(self, row: int, other: "Draws") -> None:
        """Makes patch `row` the first of `other`, in place."""
        for column in fields(self):
            getattr(self, column.name)[row] = getattr(other, column.name)[0]


class Sampler:
    """Draws patches of `patch_px` pixels: magnification by weight, slide evenly or by weight, position uniformly over its tissue.

    slides: the rows of the index to draw from. mpp, weight, continuous: see `Magnification`. weight_by: see `slide_choice`; None: evenly.
    A patch has at least `min_tissue` of tissue, by the index's grid. batch_size: the patches of a step, over all processes.
    region: how many patches share a region; see `regions`. distinct: a limit on how many patches there are; see `distinct`.
    """

    def __init__(
        self,
        index: SlideIndex,
        *,
        slides: np.ndarray,
        mpp: list[float],
        weight: list[float],
        continuous: bool = False,
        weight_by: str | None = None,
        patch_px: int,
        min_tissue: float,
        batch_size: int,
        region: Region,
        distinct: Distinct | None = None,
    ):
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: a batch has at least 1 patch.")
        if distinct is not None and distinct.patches is None:
            distinct = None
        if distinct is not None and region.patches > 1:
            raise UserError(
                f"data.limit.patches={distinct.patches} with region.patches={region.patches}: a limited number of patches is drawn one by "
                "one, so that their number is what was asked for. Choose region=single."
            )
        self.magnification = Magnification(mpp, weight, continuous)
        self.index, self.patch_px, self.min_tissue = index, patch_px, min_tissue
        self.batch_size, self.region, self.distinct = batch_size, region, distinct
        self._places = Places(index, slides, self.magnification, weight_by, patch_px, min_tissue)

    @property
    def slides(self) -> list[np.ndarray]:
        """For each magnification, or interval of them, the slides scanned finely enough for it, or for part of it."""
        return self._places.slides

    @property
    def chunk_batches(self) -> int:
        """Batches that share regions, and are best read together."""
        return self.region.together

    def sample(self, seed: int, indices: np.ndarray, redraw: int = 0) -> Draws:
        """The patches number `indices` of the run with this seed. `redraw` counts replacements of a patch that cannot be read; these
        are drawn by themselves."""
        indices = np.array(indices, np.int64)
        if self.distinct is not None:
            slide, corner, mpp, spare = self.distinct.draw(self._places, seed, indices, redraw)
            region = indices
        elif self.region.patches == 1 or redraw:
            slide, corner, mpp, spare = self._places.single(seed, "patch", indices, redraw)
            region = indices if self.region.patches == 1 else -1 - indices
        else:
            slide, corner, mpp, spare, region = self._from_regions(seed, indices)
        views_seed = (spare[:, 0] << np.uint64(32)) | spare[:, 1]
        redraws = np.full(len(indices), redraw)
        return Draws(slide, corner[:, 0].copy(), corner[:, 1].copy(), mpp, views_seed, region, redraws)

    def _from_regions(self, seed: int, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """slide (N,), corner (N, 2), mpp (N,) of patches that share regions; (N, 2) words that they do not use; region (N,)."""
        region, member = shared(seed, indices, self.batch_size, self.region)
        numbers, which = np.unique(region, return_inverse=True)
        slide, corner, mpp, spare = self._places.single(seed, "region", numbers)
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
        for tries in (more(0, len(indices), _MEMBER_TRIES), _MEMBER_TRIES):
            bits = blocks(seed, "patch", indices[pending], tries)
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
