"""Glands as stamps: a lumen ringed by radially arranged nuclei."""

import math
from functools import lru_cache

import numpy as np

from pathssl.slides.synthetic.noise import TILE_PX, seamless_tile
from pathssl.slides.synthetic.nuclei import Canvas, Stamp, library, pointing, press

_VARIANTS = 20


@lru_cache(maxsize=4)
def gland_library(mpp: float, seed: int, tissue: int) -> list[Stamp]:
    """Glands of many sizes, each in the eight poses of a square; each marks its body as `tissue`."""
    rng = np.random.default_rng([seed, *b"glands"])
    texture = seamless_tile(seed, 0.6 / mpp)
    glands = []
    for _ in range(_VARIANTS):
        gland = _draw(mpp, rng, texture, seed)
        for turn in range(8):
            planes = [np.rot90(plane, turn % 4) for plane in gland]
            planes = [np.ascontiguousarray(plane[::-1] if turn > 3 else plane) for plane in planes]
            glands.append(Stamp(*planes, tissue=tissue))
    return glands


def _draw(mpp: float, rng: np.random.Generator, texture: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """(cover, haematoxylin, eosin, ids) of one gland."""
    outer_um = rng.uniform(22, 38)
    wall_um = min(rng.uniform(11, 16), outer_um - 4)
    half_px = math.ceil(outer_um * 1.35 / mpp)
    y_um, x_um = np.mgrid[-half_px : half_px + 1, -half_px : half_px + 1] * mpp
    waves = [(order, rng.normal(0, 0.16 / order), rng.uniform(0, 2 * math.pi)) for order in range(2, 6)]
    stretch, tilt = rng.uniform(0.72, 1), rng.uniform(0, math.pi)

    def outline(phi: np.ndarray | float) -> np.ndarray | float:
        """The outer radius in um in direction `phi`: an ellipse with a few waves."""
        ellipse = stretch / np.sqrt((stretch * np.cos(phi - tilt)) ** 2 + np.sin(phi - tilt) ** 2)
        return outer_um * ellipse * (1 + sum(size * np.cos(order * phi + start) for order, size, start in waves))

    phi, radius_um = np.arctan2(y_um, x_um), np.hypot(y_um, x_um)
    depth_um = outline(phi) - radius_um  # below the basement membrane
    cover = np.clip(depth_um / (0.6 + mpp) + 0.5, 0, 1).astype(np.float32)
    y0, x0 = rng.integers(TILE_PX - len(cover), size=2)
    grain = texture[y0 : y0 + len(cover), x0 : x0 + len(cover)]
    cells = round(2 * math.pi * outer_um / 5.0)
    columns = np.cos(cells * phi + 1.5 * np.sin(3 * phi)) ** 8  # walls between columnar cells
    lumen = np.clip((depth_um - wall_um - 1.2 * columns) / (1.2 + mpp) + 0.5, 0, 1)
    mucin = np.clip((depth_um / wall_um - 0.45) * 2, 0, 1) * rng.uniform(0.0, 0.6)  # pale towards the lumen
    brush = np.exp(-(((depth_um - wall_um) / 1.0) ** 2))
    membrane = np.exp(-((depth_um / 0.9) ** 2))
    cytoplasm = (0.44 + 0.07 * grain + 0.08 * columns) * (1 - mucin) + 0.25 * brush + 0.2 * membrane
    secret = np.clip(rng.uniform(-0.1, 0.25) + 0.1 * grain, 0.02, None)
    eosin = np.clip(cytoplasm * (1 - lumen) + secret * lumen, 0.02, None).astype(np.float32)
    haematoxylin = np.clip((0.17 + 0.03 * grain) * (1 - lumen) * (1 - 0.6 * mucin), 0.01, None).astype(np.float32)
    canvas = Canvas(haematoxylin, eosin, np.zeros(cover.shape, np.int32), np.zeros(cover.shape, np.uint8))
    columnar = library("columnar", mpp, seed)
    for cell in rng.permutation(cells):
        angle = (cell + rng.uniform(-0.2, 0.2)) * 2 * math.pi / cells
        at_um = outline(angle) - rng.uniform(5.0, 7.5)
        nucleus = pointing(columnar, angle + rng.normal(0, 0.12), rng)
        press(canvas, nucleus, half_px + at_um / mpp * math.sin(angle), half_px + at_um / mpp * math.cos(angle), 0.18)
    return cover, canvas.haematoxylin, canvas.eosin, canvas.ids
