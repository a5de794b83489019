"""Which patch is the i-th of a run: a pure function of (seed, i)."""

from dataclasses import dataclass

import numpy as np

from pathssl.errors import UserError
from pathssl.seeding import uniforms, words
from pathssl.slides.slide import COARSER
from pathssl.slides.slide_index import SlideIndex

_DRAWS_OF_A_SLIDE = 32


@dataclass(frozen=True)
class Draws:
    """Patches by position: arrays of one length; x0, y0 are the top-left corner in level-0 pixels, mpp in um per pixel."""

    slide: np.ndarray
    x0: np.ndarray
    y0: np.ndarray
    mpp: np.ndarray
    views_seed: np.ndarray

    def __len__(self) -> int:
        return len(self.slide)


class Sampler:
    """Draws patches of `patch_px` pixels: magnification by weight, slide uniformly, position uniformly over its tissue.

    slides: the rows of the index to draw from. mpp, weight: the magnifications and their mixing weights.
    A patch has at least `min_tissue` of tissue, by the index's grid.
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
    ):
        if len(mpp) != len(weight) or not mpp or min(weight) < 0 or sum(weight) <= 0 or min(mpp) <= 0:
            raise UserError(
                f"magnification has mpp={list(mpp)} and weight={list(weight)}: give one weight to each mpp, all mpp above 0, and at "
                "least one weight above 0."
            )
        self.index, self.patch_px, self.min_tissue = index, patch_px, min_tissue
        self.mpp = np.asarray(mpp, np.float64)
        self.cumulative_weight = np.cumsum(np.asarray(weight, np.float64)) / np.sum(weight)
        # For each magnification, the slides scanned finely enough for it.
        self.slides = [slides[index.mpp[slides] <= COARSER * m] for m in self.mpp]
        for m, usable, w in zip(self.mpp, self.slides, weight, strict=True):
            if w > 0 and len(usable) == 0:
                finest = index.mpp[slides].min() if len(slides) else float("nan")
                raise UserError(
                    f"No slide is scanned finely enough for {m:g} um per pixel: the finest of {len(slides)} has {finest:g}. "
                    "Choose a coarser magnification=..., such as 10x or 5x."
                )

    def sample(self, seed: int, indices: np.ndarray, redraw: int = 0) -> Draws:
        """The patches number `indices` of the run with this seed. `redraw` counts replacements of a patch that cannot be read."""
        indices = np.asarray(indices, np.int64)
        n = len(indices)
        slide, x0, y0, mpp = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
        # The magnification is drawn once, so that rejections cannot shift the mix.
        u = uniforms(seed, "magnification", indices, 1)[:, 0]
        level = np.minimum(np.searchsorted(self.cumulative_weight, u, side="right"), len(self.mpp) - 1)
        pending = np.arange(n)
        attempt = redraw << 16
        while len(pending):
            u = uniforms(seed, "position", indices[pending], 3, attempt)
            # After many rejections on a slide another slide is drawn, so that one sparse slide cannot stall a run.
            block = (redraw << 16) + (attempt & 0xFFFF) // _DRAWS_OF_A_SLIDE
            which = uniforms(seed, "slide", indices[pending], 1, block)[:, 0]
            rejected = []
            for row, position in enumerate(pending):
                usable = self.slides[level[position]]
                k = int(usable[int(which[row] * len(usable))])
                m = float(self.mpp[level[position]])
                x, y = self._position(k, m, u[row])
                if self.index.overlap(k, x, y, m, self.patch_px) >= self.min_tissue:
                    slide[position], x0[position], y0[position], mpp[position] = k, x, y, m
                else:
                    rejected.append(position)
            pending = np.asarray(rejected, np.int64)
            attempt += 1
            if (attempt & 0xFFFF) == 0xFFFF:
                raise UserError(
                    f"No position with {self.min_tissue:.0%} of tissue was found in {0xFFFF:,} draws at {self.mpp.tolist()} um per pixel "
                    f"for patches of {self.patch_px} px: the tissue is smaller than the patches. Lower data.foreground.min_tissue, or "
                    "choose a finer magnification."
                )
        views = words(seed, "views", indices, 2, redraw)
        return Draws(slide, x0, y0, mpp, (views[:, 0] << np.uint64(32)) | views[:, 1])

    def _position(self, k: int, mpp: float, u: np.ndarray) -> tuple[int, int]:
        """The corner of a patch whose centre is uniform in a foreground cell of slide k, moved inside the slide where it fits."""
        cells = self.index.cells(k)
        columns = self.index.tissue(k).shape[1]
        row, column = divmod(int(cells[int(u[0] * len(cells))]), columns)
        cell_px = self.index.cell_um / self.index.mpp[k]
        footprint = self.patch_px * mpp / self.index.mpp[k]
        # Whole pixels of a pyramid level that has this magnification, so that it is read without resampling.
        grid = max(1, int(mpp / self.index.mpp[k] + 0.05))
        corner = []
        for start, jitter, length in ((column, u[1], self.index.width[k]), (row, u[2], self.index.height[k])):
            value = round((start + jitter) * cell_px - footprint / 2)
            inside = int(min(max(value, 0), max(0, int(length - footprint))))
            corner.append(inside - inside % grid)
        return corner[0], corner[1]
