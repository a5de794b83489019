"""The level pixels that a patch is made of, and how it is made of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pathssl.slides.resample import reach, resample

_WHOLE_PIXEL = 1e-3
_FAR_APART = 4  # read_patches: a bounding box of more than so many times what the patches need is not worth reading


class Footprint(NamedTuple):
    """The level pixels that a patch is made of: the window that its filter reaches, and its corner in whole and fraction."""

    left: int
    top: int
    right: int
    bottom: int
    row: int
    column: int
    shift: tuple[float, float] | None  # None: the window is the patch


def windows(
    downsample: float, ratio: float, x0: Sequence[int], y0: Sequence[int], size: int
) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of the level pixels that `Slide.read_patches` asks the reader for."""
    footprints = [footprint(downsample, ratio, x, y, size, size) for x, y in zip(x0, y0, strict=True)]
    whole = box(footprints)
    return [each[:4] for each in footprints] if whole is None else [whole]


def footprint(downsample: float, ratio: float, x0: float, y0: float, width: int, height: int) -> Footprint:
    """Of the patch that begins at level-0 pixel (x0, y0), in pixels of a level."""
    x, y = x0 / downsample, y0 / downsample
    column, row = round(x), round(y)
    if ratio == 1 and abs(x - column) < _WHOLE_PIXEL and abs(y - row) < _WHOLE_PIXEL:
        return Footprint(column, row, column + width, row + height, row, column, None)
    column, row = math.floor(x), math.floor(y)
    left, right = reach(x - column, ratio, width)
    top, bottom = reach(y - row, ratio, height)
    shift = y - row, x - column
    return Footprint(column + left, row + top, column + right, row + bottom, row, column, shift)


def box(footprints: Sequence[Footprint]) -> tuple[int, int, int, int] | None:
    """The window that holds them all; None where that is mostly pixels that nobody needs."""
    if len(footprints) == 1:
        return footprints[0][:4]
    left, top = min(each.left for each in footprints), min(each.top for each in footprints)
    right, bottom = max(each.right for each in footprints), max(each.bottom for each in footprints)
    needed = sum((each.right - each.left) * (each.bottom - each.top) for each in footprints)
    return (left, top, right, bottom) if (right - left) * (bottom - top) <= _FAR_APART * needed else None


def fill(patch: np.ndarray, window: np.ndarray, left: int, top: int, place: Footprint, ratio: float) -> None:
    """Makes the patch from a window of level pixels that begins at (left, top) and holds its footprint."""
    if place.shift is None:
        patch[...] = window[place.top - top : place.bottom - top, place.left - left : place.right - left]
    else:
        resample(window, place.row - top, place.column - left, place.shift, ratio, patch)
