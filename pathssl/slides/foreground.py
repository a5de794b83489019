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


def overlap(tissue: np.ndarray, left: float, top: float, side: float) -> float:
    """The tissue fraction of a square, given in cells of the grid `tissue`; outside of the grid there is none."""
    rows, columns = tissue.shape
    row, row_end = max(int(top // 1), 0), min(int(-(-(top + side) // 1)), rows)
    column, column_end = max(int(left // 1), 0), min(int(-(-(left + side) // 1)), columns)
    if row >= row_end or column >= column_end:
        return 0.0
    block = tissue[row:row_end, column:column_end].tolist()
    widths = [min(i + 1, left + side) - max(i, left) for i in range(column, column_end)]
    total = 0.0
    for i, line in enumerate(block, row):
        height = min(i + 1, top + side) - max(i, top)
        total += height * sum(width * value for width, value in zip(widths, line, strict=True))
    return total / (255 * side * side)


def overlaps(tissue: np.ndarray, left: np.ndarray, top: np.ndarray, side: float) -> np.ndarray:
    """(N,) float64: `overlap` for N squares of one size. Exact: the summed-area table is bilinear within a cell."""
    rows, columns = tissue.shape
    table = np.zeros((rows + 1, columns + 1))
    table[1:, 1:] = tissue.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)

    def integral(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        y, x = np.clip(y, 0, rows), np.clip(x, 0, columns)
        row, column = np.minimum(y.astype(np.int64), rows - 1), np.minimum(x.astype(np.int64), columns - 1)
        dy, dx = y - row, x - column
        upper = table[row, column] * (1 - dx) + table[row, column + 1] * dx
        lower = table[row + 1, column] * (1 - dx) + table[row + 1, column + 1] * dx
        return upper * (1 - dy) + lower * dy

    left, top = np.asarray(left, np.float64), np.asarray(top, np.float64)
    right, bottom = left + side, top + side
    total = integral(bottom, right) - integral(top, right) - integral(bottom, left) + integral(top, left)
    return total / (255 * side * side)
