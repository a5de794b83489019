"""Resamples windows of pixels with the antialiasing triangle filter, in a fraction of the time that decoding them takes.

The filter is that of Pillow's `resize(..., BILINEAR, box=...)` and of torchvision's antialiased bilinear: the output
pixel i sees the level pixels k with the weights

    w_ik = max(0, 1 - |k + 0.5 - centre_i| / support) / sum over k,   centre_i = start + (i + 0.5) ratio,   support = max(ratio, 1)

for rows, then for columns. Pillow holds weights and the image between the two passes in 8 bits, so the results differ by
at most one grey level.

The sums are float32 and have the same bits on every machine: without `fastmath` LLVM neither reorders additions nor fuses
them with multiplications, the vector units round as the scalar ones do (IEEE 754), and no function of libm is called.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

# Of indices: signed ones would each be asked whether they count from the end, which takes longer than the sums.
_unsigned = np.uint64


def resample(
    window: np.ndarray, row: int, column: int, shift: tuple[float, float], ratio: float, out: np.ndarray
) -> None:
    """Fills `out`, (H, W, 3) uint8, from `window`, (h, w, 3) uint8, both C-contiguous; `ratio` window pixels to a pixel.

    The corner of `out` lies at (row + shift[0], column + shift[1]) of the window, in units of its pixels; shift in [0, 1).
    The result depends on the pixels under the filter, on shift and on ratio, not on where the window begins. Pixels that
    the filter would want beyond the window count for nothing, as in Pillow.
    """
    assert out.dtype == window.dtype == np.uint8 and out.flags.c_contiguous
    weights, weigh = _compiled()
    rows = weights(row, shift[0], ratio, out.shape[0], window.shape[0])
    columns = weights(column, shift[1], ratio, out.shape[1], window.shape[1])
    weigh(np.ascontiguousarray(window), *rows, *columns, out)


def reach(fraction: float, ratio: float, size: int) -> tuple[int, int]:
    """(first, end) of the pixels under the filter of `size` output pixels along one axis, counted from the whole pixel in
    which the first of them begins, a `fraction` behind that pixel's edge.
    """
    support = max(ratio, 1.0)
    first, last = (math.floor(fraction + (i + 0.5) * ratio - support - 0.5) + 1 for i in (0, size - 1))
    return first, last + math.ceil(2 * support)


@cache
def _compiled() -> tuple[Callable, Callable]:
    """`_weights` and `_weigh` as machine code. Numba is imported at the first use, as most patches need none of it."""
    from numba import njit

    weigh_types = "void(Array(uint8, 3, 'C', readonly=True), u8[::1], f4[:,::1], u8[::1], f4[:,::1], u1[:,:,::1])"
    functions = {_weights: "(i8, f8, f8, i8, i8)", _weigh: weigh_types}
    try:
        return tuple(njit(types, cache=True, nogil=True)(function) for function, types in functions.items())
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
        # Neither the package's folder nor a cache folder can be written: this process compiles for itself (1 s).
        return tuple(njit(types, nogil=True)(function) for function, types in functions.items())


def _weights(whole: int, fraction: float, ratio: float, size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(first window pixel of each of `size` output pixels, uint64; their weights (size, taps), float32) along one axis."""
    support = max(ratio, 1.0)
    taps = min(int(np.ceil(2 * support)), length)  # as many pixel centres lie within the triangle at most
    first = np.empty(size, np.uint64)
    weights = np.empty((size, taps), np.float32)
    heights = np.empty(taps, np.float64)
    for i in range(size):
        centre = fraction + (i + 0.5) * ratio
        start = int(np.floor(centre - support - 0.5)) + 1
        start = min(max(start, -whole), length - taps - whole)
        total = 0.0
        for k in range(taps):
            heights[k] = max(0.0, 1 - abs(start + k + 0.5 - centre) / support)
            total += heights[k]
        first[i] = whole + start
        for k in range(taps):
            weights[i, k] = heights[k] / total
    return first, weights


def _weigh(
    window: np.ndarray,
    rows: np.ndarray,
    row_weights: np.ndarray,
    columns: np.ndarray,
    column_weights: np.ndarray,
    out: np.ndarray,
) -> None:
    """A line of `out` at a time: the sum of whole window rows, which vector units make, then the columns of this sum."""
    taps = _unsigned(column_weights.shape[1])
    left, right = columns[0], columns[-1] + taps
    line = np.empty(3 * (right - left), np.float32)
    for i in range(out.shape[0]):
        for k in range(row_weights.shape[1]):
            weight = row_weights[i, k]
            pixels = window[rows[i] + _unsigned(k), left:right].reshape(-1)
            if k == 0:
                for x in range(line.size):
                    line[x] = weight * np.float32(pixels[x])
            else:
                for x in range(line.size):
                    line[x] += weight * np.float32(pixels[x])
        for j in range(_unsigned(out.shape[1])):
            x = _unsigned(3) * (columns[j] - left)
            red = green = blue = np.float32(0.5)  # what is cut to whole numbers below is rounded so
            for k in range(taps):
                weight = column_weights[j, k]
                red += weight * line[x]
                green += weight * line[x + _unsigned(1)]
                blue += weight * line[x + _unsigned(2)]
                x += _unsigned(3)
            out[i, j, _unsigned(0)] = np.uint8(red)
            out[i, j, _unsigned(1)] = np.uint8(green)
            out[i, j, _unsigned(2)] = np.uint8(blue)
