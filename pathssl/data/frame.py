"""Where patches may lie on their slides: at whole pixels of the level that they are read from."""

from dataclasses import dataclass, fields, replace

import numpy as np

from pathssl.slides.slide_index import SlideIndex


@dataclass(frozen=True, eq=False)
class Frame:
    """The slides of N patches at their magnifications. Corners are (x, y), the top left, in pixels of the level, if not said otherwise.

    At whole pixels a patch is read without resampling where the level has its magnification.
    """

    index: SlideIndex
    patch_px: int
    slide: np.ndarray  # (N,) int64
    mpp: np.ndarray  # (N,) float64, of the patch
    level: np.ndarray  # (N,) int64, that is read
    ratio: np.ndarray  # (N,) float64, its pixels per pixel of the patch; exactly 1 where nothing is resampled
    downsample: np.ndarray  # (N,) float64, level-0 pixels per pixel of it
    greatest: np.ndarray  # (N, 2) the last corner of a patch inside the slide; 0 where it is smaller

    @classmethod
    def of(cls, index: SlideIndex, patch_px: int, slide: np.ndarray, mpp: np.ndarray) -> "Frame":
        level, ratio = index.source(slide, mpp)
        downsample = index.downsamples[slide, level]
        side = patch_px * mpp / index.mpp[slide]
        room = np.floor(np.stack([index.width[slide], index.height[slide]], axis=1) - side[:, None])
        greatest = np.maximum(room, 0) // downsample[:, None]
        return cls(index, patch_px, slide, mpp, level, ratio, downsample, greatest)

    def __getitem__(self, rows: np.ndarray) -> "Frame":
        arrays = [field.name for field in fields(self) if field.name not in ("index", "patch_px")]
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})

    def around_cells(self, u: np.ndarray) -> np.ndarray:
        """(N, T, 2) corners of patches whose centre is uniform in a foreground cell, moved inside the slide. u: (N, T, 3) in [0, 1)."""
        cell = np.stack(self.index.cell(self.slide[:, None], u[..., 0]), axis=-1)
        corner_um = (cell + u[..., 1:]) * self.index.cell_um - (self.patch_px * self.mpp / 2)[:, None, None]
        corner = np.rint(corner_um / (self.index.mpp[self.slide] * self.downsample)[:, None, None])
        return np.clip(corner, 0, self.greatest[:, None])

    def first_with_tissue(self, corners: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
        """(found (N,) bool, corner (N, 2) int64 in level-0 pixels): the first of the T `corners` (N, T, 2) of each patch at which at least
        the fraction `least` of it is tissue."""
        n, tries, _ = corners.shape
        corners = self.in_level_0(corners)
        x0, y0 = corners.reshape(-1, 2).T
        tissue = self.index.overlaps(np.repeat(self.slide, tries), x0, y0, np.repeat(self.mpp, tries), self.patch_px)
        enough = tissue.reshape(n, tries) >= least
        first = np.arange(n), enough.argmax(axis=1)
        return enough[first], corners[first]

    def in_level_0(self, corners: np.ndarray) -> np.ndarray:
        """(N, T, 2) int64 level-0 pixels."""
        return np.rint(corners * self.downsample[:, None, None]).astype(np.int64)

    def in_level(self, corner: np.ndarray) -> np.ndarray:
        """(N, 2) float64 whole pixels of the level, for corners (N, 2) in level-0 pixels that come from such."""
        return np.rint(corner / self.downsample[:, None])
