"""Noise that pictures are made of: smooth random fields and small tiles that repeat without a seam."""

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

TILE_PX = 1024  # a power of two, so that wrapping a coordinate is one bitwise and


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], period_px: float) -> np.ndarray:
    """(H, W) float32, mean 0 and variance 1 over draws, changing over about `period_px` pixels."""
    lattice = rng.standard_normal([int(side / period_px) + 5 for side in shape]).astype(np.float32)
    # a cubic B-spline surface keeps sum(w^2) = 151/315 of the lattice's variance along each of the two axes
    return spline_surface(lattice, shape, period_px) / np.float32(151 / 315)


def spline_surface(lattice: np.ndarray, shape: tuple[int, int], period_px: float) -> np.ndarray:
    """(H, W) float32: the uniform cubic B-spline surface whose control points lie `period_px` pixels apart.

    Control point (i, j) acts at pixel ((i - 1) period, (j - 1) period); weights of de Boor (1978).
    """
    surface = lattice
    for axis, side in enumerate(shape):
        position = np.arange(side, dtype=np.float64) / period_px
        first = np.floor(position).astype(np.int64)
        t = (position - first).astype(np.float32)
        weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
        along = (slice(None), None) if axis == 0 else (None, slice(None))
        total = surface.take(first, axis)
        total *= weights[0][along]
        for tap in (1, 2, 3):
            total += weights[tap][along] * surface.take(first + tap, axis)
        surface = total
    return surface


@lru_cache(maxsize=32)
def seamless_tile(seed: int, sigma_px: float | tuple[float, float]) -> np.ndarray:
    """(TILE_PX, TILE_PX) float32 Gaussian noise of mean 0 and variance 1 that continues across its own edges."""
    white = np.random.default_rng(seed).standard_normal((TILE_PX, TILE_PX), np.float32)
    tile = gaussian_filter(white, sigma_px, mode="wrap")
    tile = (tile - tile.mean()) / tile.std()
    tile.flags.writeable = False  # every caller gets the same one
    return tile


def look_up(tile: np.ndarray, y_px: np.ndarray, x_px: np.ndarray) -> np.ndarray:
    """float32 of the coordinates' shape: the tile's nearest value at (y, x), repeated over the plane."""
    wrap = TILE_PX - 1
    return tile[y_px.astype(np.int32) & wrap, x_px.astype(np.int32) & wrap]
