"""Where a slide has tissue: a mask over its thumbnail, and the fraction of tissue in square cells of a grid."""

import numpy as np
from skimage.color import rgb2hsv
from skimage.filters import gaussian, threshold_otsu

from pathssl.errors import UserError

METHODS = ("otsu", "hsv")
_DARK = 26  # of 255: the black of scanner borders, where saturation means nothing (our choice)
# Otsu's threshold is kept within what separates glass from tissue (our choice): the lower bound is CLAM's fixed
# threshold (8 of 255, Lu et al. 2021); the upper keeps a slide that is all tissue from being split in pale and dark.
_LOWEST, _HIGHEST = 8 / 255, 0.15
_ONE_CLASS = 0.05  # the two sides of the threshold differ by less: the slide is all glass or all tissue
_GLASS = 0.10  # ... and is tissue where saturation is above this
_SMOOTHING_PX = 1.0
# Midnight's filter of patches (Karasikov et al. 2025), OpenCV ranges: hue in [90, 180] of 180, saturation in
# [8, 255], value in [103, 255]. As fractions of 1.
_HUE, _SATURATION, _VALUE = (0.5, 1.0), 8 / 255, 103 / 255
_STRIP_PX = 512
_PARTS = 16384.0  # of a cell: 4 nm where cells are 64 um wide
_AT_ONCE = 8192


def tissue_mask(thumbnail: np.ndarray, method: str) -> np.ndarray:
    """(H, W) bool, True on tissue, for a thumbnail of (H, W, 3) uint8.

    "otsu": smoothed saturation above Otsu's threshold. "hsv": hue, saturation and value in Midnight's published ranges.
    """
    if method == "otsu":
        return _by_otsu(thumbnail)
    if method == "hsv":
        strips = range(0, len(thumbnail), _STRIP_PX)  # rgb2hsv works in float64
        return np.concatenate([_in_ranges(rgb2hsv(thumbnail[top : top + _STRIP_PX])) for top in strips])
    raise UserError(f"Unknown foreground method {method!r}: choose one of {', '.join(METHODS)}.")


def _by_otsu(thumbnail: np.ndarray) -> np.ndarray:
    brightest, darkest = thumbnail.max(axis=-1), thumbnail.min(axis=-1)
    saturation = (brightest - darkest).astype(np.float32) / np.maximum(brightest, 1)
    saturation[brightest < _DARK] = 0
    saturation = gaussian(saturation, sigma=_SMOOTHING_PX, mode="nearest", preserve_range=True)
    return saturation > _threshold(saturation)


def _threshold(saturation: np.ndarray) -> float:
    lowest, highest = float(saturation.min()), float(saturation.max())
    if highest - lowest < _ONE_CLASS:
        return _GLASS
    threshold = float(threshold_otsu(saturation))
    above = saturation > threshold
    if saturation[above].mean() - saturation[~above].mean() < _ONE_CLASS:
        return _GLASS
    return min(max(threshold, _LOWEST), _HIGHEST)


def _in_ranges(hsv: np.ndarray) -> np.ndarray:
    hue, saturation, value = np.moveaxis(hsv, -1, 0)
    return (hue >= _HUE[0]) & (hue <= _HUE[1]) & (saturation >= _SATURATION) & (value >= _VALUE)


def tissue_grid(mask: np.ndarray, cell_px: float, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) uint8: the tissue fraction of cells of `cell_px` (not necessarily whole) mask pixels, 255 = all.

    Mask pixels count by the area that lies in the cell; what lies outside the mask counts as no tissue.
    """
    by_row = _sums_between(mask.astype(np.float32), np.arange(rows + 1) * cell_px)
    by_cell = _sums_between(by_row.T, np.arange(columns + 1) * cell_px).T
    return np.rint(by_cell * (255 / cell_px**2)).clip(0, 255).astype(np.uint8)


def _sums_between(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(len(edges) - 1, W): the integral over the rows of `values` between fractional edges."""
    cumulative = np.zeros((len(values) + 1, values.shape[1]), np.float64)
    np.cumsum(values, axis=0, out=cumulative[1:])
    edges = np.minimum(edges, len(values))
    whole = np.minimum(edges.astype(np.int64), len(values) - 1)
    at_edges = cumulative[whole] + (edges - whole)[:, None] * values[whole]
    return np.diff(at_edges, axis=0)


def overlaps(
    tissue: np.ndarray, start: np.ndarray, shape: np.ndarray, corner: np.ndarray, side: np.ndarray
) -> np.ndarray:
    """(N,) float64: the tissue fraction of N squares, each in a grid of its own; outside of it there is none.

    tissue: flat, the grids one after another. start (N,), shape (N, 2): where a square's grid begins, its rows and columns.
    corner (N, 2) as (top, left), side (N,): the square, in cells of the grid.
    Edges are rounded to 1/16384 of a cell. Then all sums are of whole numbers, which float64 adds exactly in any order (below 2^53), and a
    square's fraction is the same on every machine, whatever else is asked for with it.
    """
    if len(start) > _AT_ONCE:  # bounds the memory
        parts = [slice(i, i + _AT_ONCE) for i in range(0, len(start), _AT_ONCE)]
        return np.concatenate([overlaps(tissue, start[i], shape[i], corner[i], side[i]) for i in parts])
    length = np.maximum(np.rint(side * _PARTS), 1)
    begin = np.rint(corner * _PARTS)
    within, end = np.clip(np.stack([begin, begin + length[:, None]]), 0, shape * _PARTS)
    first = np.floor(within / _PARTS)
    most = int((np.ceil(end / _PARTS) - first).max(initial=1))
    cell_NAM = first[..., None] + np.arange(most)  # A: the two axes; M: the cells of the largest square along one
    covered_NAM = np.minimum(end[..., None], (cell_NAM + 1) * _PARTS) - np.maximum(within[..., None], cell_NAM * _PARTS)
    covered_NAM = np.maximum(covered_NAM, 0)
    cell_NAM = np.minimum(cell_NAM, shape[..., None] - 1).astype(np.int64)
    in_row = start[:, None] + cell_NAM[:, 0] * shape[:, 1, None]
    values = tissue[in_row[:, :, None] + cell_NAM[:, 1, None, :]]
    total = np.einsum("nr,nrc,nc->n", covered_NAM[:, 0], values, covered_NAM[:, 1])
    return total / (255 * length * length)
