"""Which patches are worth training on, judged by their pixels: what is turned down is replaced by the next draw of its own counter."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from pathssl.errors import UserError

# OpenCV's way to HSV in 8 bits: hue in half degrees (0 to 180), divisions by tables of 12 binary places.
_PLACES = 12
_HUES = 180
_TOP = {"hue": _HUES, "saturation": 255, "value": 255}


def no_filter() -> None:
    """Every patch is accepted."""


class HsvFilter:
    """True for patches (H, W, 3) uint8 of which at least the fraction `least` of the pixels has hue, saturation and value within these
    bounds (both included), in OpenCV's units: hue from 0 to 180, the others from 0 to 255.
    """

    def __init__(self, *, least: float, hue: Sequence[int], saturation: Sequence[int], value: Sequence[int]):
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise UserError(f"patch_filter.least={least} is a fraction of a patch's pixels: from 0 to 1.")
        for (name, top), bounds in zip(_TOP.items(), (hue, saturation, value), strict=True):
            if not isinstance(bounds, Sequence) or len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] <= top:
                raise UserError(f"patch_filter.{name}={bounds}: give two ascending numbers from 0 to {top}.")
        self.least = least
        self._bounds = np.array([hue, saturation, value], np.int32)

    def __call__(self, pixels: np.ndarray) -> bool:
        return self.share(pixels) >= self.least

    def share(self, pixels: np.ndarray) -> float:
        """The fraction of the pixels that is within the bounds."""
        flat = np.ascontiguousarray(pixels).reshape(-1, 3)
        return _compiled()(flat, self._bounds, *_tables()) / len(flat)

    def __str__(self) -> str:
        return f"patch_filter=hsv (at least {self.least:.0%} of the pixels in its ranges)"


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """2^12 (255 / v) for saturation, and 2^12 (180 / 6 d) for hue, rounded; 0 for 0."""
    by = np.arange(1, 256)
    return tuple(np.concatenate([[0], np.rint(top * 2**_PLACES / by)]).astype(np.int32) for top in (255, _HUES / 6))


@cache
def _compiled() -> Callable:
    """`_within` as machine code; Numba is imported at the first use, as most runs have no filter."""
    from numba import njit

    types = "i8(Array(uint8, 2, 'C', readonly=True), i4[:,::1], i4[::1], i4[::1])"
    try:
        return njit(types, cache=True, nogil=True)(_within)
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
        return njit(types, nogil=True)(_within)  # no folder for a cache can be written


def _within(pixels: np.ndarray, bounds: np.ndarray, by_value: np.ndarray, by_spread: np.ndarray) -> int:
    """How many of `pixels` (N, 3) are within `bounds`, rows hue, saturation and value; without branches, which would often be guessed
    wrongly, and in 32 bits, to which Numba has to be held."""
    half, count = np.int32(2 ** (_PLACES - 1)), np.int64(0)
    for n in range(len(pixels)):
        red, green, blue = np.int32(pixels[n, 0]), np.int32(pixels[n, 1]), np.int32(pixels[n, 2])
        value = max(red, green, blue)
        spread = np.int32(value - min(red, green, blue))
        saturation = np.int32(np.int32(spread * by_value[np.uint64(value)] + half) >> _PLACES)
        if_green, if_blue = blue - red + 2 * spread, red - green + 4 * spread
        hue = green - blue if value == red else (if_green if value == green else if_blue)
        hue = np.int32(np.int32(hue * by_spread[np.uint64(spread)] + half) >> _PLACES)
        hue = hue + _HUES if hue < 0 else hue
        count += (
            (bounds[0, 0] <= hue)
            & (hue <= bounds[0, 1])
            & (bounds[1, 0] <= saturation)
            & (saturation <= bounds[1, 1])
            & (bounds[2, 0] <= value)
            & (value <= bounds[2, 1])
        )
    return count
