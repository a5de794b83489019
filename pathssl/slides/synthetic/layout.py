"""Where tissue lies on the glass and which tissue it is."""

import math

import numpy as np

from pathssl.slides.synthetic.noise import smooth_field
from pathssl.slides.synthetic.tissue import GLASS, TISSUES


def slide_plan(side_px: int, mpp: float, rng: np.random.Generator) -> np.ndarray:
    """(side, side) uint8: GLASS or 1 + an index into TISSUES; blobs of tissue whose regions are about 0.3 mm wide."""
    plan = regions((side_px, side_px), 210 / mpp, rng, every_px=2)
    shape, at = (side_px, side_px), np.linspace(-1, 1, side_px, dtype=np.float32)
    extent = np.full(shape, -np.inf, np.float32)
    for _ in range(int(rng.integers(1, 3))):  # one or two pieces
        y, x = rng.uniform(-0.25, 0.25, 2)
        ry, rx = rng.uniform(0.75, 1.1, 2)
        extent = np.maximum(extent, 1 - np.hypot((at[:, None] - y) / ry, (at[None, :] - x) / rx))
    edge = 0.20 * smooth_field(rng, shape, side_px / 7) + 0.035 * smooth_field(rng, shape, 50 / mpp)
    edge += 0.006 * smooth_field(rng, shape, 7 / mpp)
    edge -= np.abs(at[:, None]) ** 6 + np.abs(at[None, :]) ** 6  # rounds the corners
    border_um = np.minimum(np.arange(side_px), np.arange(side_px)[::-1]).astype(np.float32) * mpp
    closed = np.clip(2 - border_um / 50, 0, None)  # nothing is cut by the border of the slide, glands included
    inside = extent + edge - closed[:, None] - closed[None, :] > 0
    holes = smooth_field(rng, shape, 90 / mpp) + 0.12 * smooth_field(rng, shape, 10 / mpp) > 2.3
    plan[~inside | holes] = GLASS
    return plan


def regions(shape: tuple[int, int], period_px: float, rng: np.random.Generator, every_px: int) -> np.ndarray:
    """(H, W) uint8, 1 + an index into TISSUES: at each pixel the tissue whose smooth random field is highest there.

    Decided at `every_px`-th pixels.
    """
    small, period = [math.ceil(side / every_px) for side in shape], period_px / every_px
    best, plan = np.full(small, -np.inf, np.float32), np.zeros(small, np.uint8)
    for tissue in range(1, len(TISSUES) + 1):
        field = smooth_field(rng, small, period) + 0.12 * smooth_field(rng, small, period / 8)
        plan[field > best] = tissue
        best = np.maximum(best, field)
    return plan.repeat(every_px, axis=0).repeat(every_px, axis=1)[: shape[0], : shape[1]].copy()
