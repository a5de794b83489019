"""Nuclei as small stamps of haematoxylin, drawn once per process and pressed many times."""

import math
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from pathssl.slides.synthetic.noise import TILE_PX, seamless_tile

ANGLES = 24  # directions, over half a turn, for which long nuclei are drawn
_VARIANTS = {"lymphocyte": 48, "tumour": 96, "spindle": 8, "columnar": 6, "flat": 3, "debris": 48, "ghost": 16}


@dataclass(frozen=True)
class Stamp:
    """A piece of tissue that covers what lies beneath it."""

    cover: np.ndarray  # (h, w) float32, 0 = leaves the picture alone, 1 = replaces it
    haematoxylin: np.ndarray  # (h, w) float32
    eosin: np.ndarray  # (h, w) float32
    ids: np.ndarray  # (h, w) int32, 0 or the number of the nucleus within the stamp
    tissue: int | None = None  # what the stamp's body is, where it is more than one nucleus


@dataclass
class Canvas:
    """The concentrations of a picture while it is painted; all (H, W)."""

    haematoxylin: np.ndarray  # float32
    eosin: np.ndarray  # float32
    ids: np.ndarray  # int32, 0 = no nucleus
    structure: np.ndarray  # uint8, the tissue that was painted there, e.g. stroma between two glands
    nuclei: int = 0  # ids given so far


def press(canvas: Canvas, stamp: Stamp, y_px: float, x_px: float, crowding: float) -> None:
    """Presses the stamp centred at (y, x), unless over `crowding` of its body would hit another of its kind."""
    height, width = stamp.cover.shape
    top, left = round(y_px - height / 2), round(x_px - width / 2)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, canvas.ids.shape[0]), min(left + width, canvas.ids.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    there, here = np.s_[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    cover, ids, structure = stamp.cover[here], canvas.ids[there], canvas.structure[there]
    body = cover > 0.5
    taken = ids[body] > 0 if stamp.tissue is None else structure[body] == stamp.tissue
    if np.count_nonzero(taken) > crowding * taken.size:
        return
    for plane, ink in ((canvas.haematoxylin, stamp.haematoxylin), (canvas.eosin, stamp.eosin)):
        plane[there] += cover * (ink[here] - plane[there])
    new = stamp.ids[here][body]
    ids[body] = np.where(new > 0, new + canvas.nuclei, 0)
    canvas.nuclei += int(stamp.ids.max(initial=0))
    if stamp.tissue is not None:
        structure[body] = stamp.tissue


@lru_cache(maxsize=32)
def library(kind: str, mpp: float, seed: int) -> list[Stamp]:
    """The stamps of one kind of nucleus; for long kinds stamp k points along angle (k % ANGLES) pi / ANGLES."""
    rng = np.random.default_rng([seed, *kind.encode()])
    chromatin = seamless_tile(seed, 0.45 / mpp)
    long = kind in ("spindle", "columnar", "flat")
    count = _VARIANTS[kind] * (ANGLES if long else 1)
    turns = [k % ANGLES * math.pi / ANGLES if long else rng.uniform(0, math.pi) for k in range(count)]
    return [_draw(kind, turn, mpp, rng, chromatin) for turn in turns]


def pointing(stamps: list[Stamp], angle: float, rng: np.random.Generator) -> Stamp:
    """One of the long stamps, at random among those that point along `angle` (radians from x towards y)."""
    return stamps[round(angle / math.pi * ANGLES) % ANGLES + ANGLES * int(rng.integers(len(stamps) // ANGLES))]


def _draw(kind: str, turn: float, mpp: float, rng: np.random.Generator, chromatin: np.ndarray) -> Stamp:
    """One nucleus of a kind; lengths in um, concentrations in units of a usual stain."""
    draw = partial(_nucleus, turn, mpp, rng, chromatin)
    if kind == "lymphocyte":
        size = rng.uniform(5.6, 7.6)
        return draw(length=size, width=size * rng.uniform(0.86, 1), wobble=0.03, inside=1.5, rim=1.75, clump=0.22)
    if kind == "tumour":
        size, pale = math.exp(rng.normal(math.log(12.5), 0.22)), rng.uniform(0.55, 1.1)
        spots, width = int(rng.integers(1, 4)), size * rng.uniform(0.6, 0.95)
        return draw(length=size, width=width, wobble=0.1, inside=pale, rim=pale + 0.55, clump=0.32, nucleoli=spots)
    if kind == "spindle":
        length, width = rng.uniform(11, 19), rng.uniform(2.4, 4)
        return draw(length=length, width=width, wobble=0.05, inside=1.1, rim=1.3, clump=0.2)
    if kind == "columnar":
        length, width, spots = rng.uniform(7.5, 10.5), rng.uniform(4, 5.4), int(rng.integers(0, 2))
        return draw(length=length, width=width, wobble=0.04, inside=1.05, rim=1.35, clump=0.25, nucleoli=spots)
    if kind == "flat":
        return draw(length=rng.uniform(8, 12), width=rng.uniform(2, 3), wobble=0.03, inside=1.3, rim=1.4, clump=0.1)
    if kind == "debris":
        size, dark = math.exp(rng.normal(math.log(1.9), 0.4)), rng.uniform(0.8, 1.7)
        width = size * rng.uniform(0.5, 1)
        return draw(length=size, width=width, wobble=0.15, inside=dark, rim=1.3, clump=0.1, counted=False)
    if kind == "ghost":  # the outline of a dead nucleus
        size = rng.uniform(7, 12)
        width = size * rng.uniform(0.6, 1)
        return draw(length=size, width=width, wobble=0.1, inside=0.28, rim=0.42, clump=0.3, counted=False)
    raise AssertionError(kind)


def _nucleus(
    turn: float,
    mpp: float,
    rng: np.random.Generator,
    chromatin: np.ndarray,
    *,
    length: float,
    width: float,
    wobble: float,
    inside: float,
    rim: float,
    clump: float,
    nucleoli: int = 0,
    counted: bool = True,
) -> Stamp:
    """A closed outline r(phi) = 1 + sum of a few harmonics, stretched to length x width (um) and turned."""
    half_px = math.ceil(length * 0.75 / mpp) + 1
    y_um, x_um = np.mgrid[-half_px : half_px + 1, -half_px : half_px + 1] * mpp
    along = x_um * math.cos(turn) + y_um * math.sin(turn)
    across = y_um * math.cos(turn) - x_um * math.sin(turn)
    along, across = along / (length / 2), across / (width / 2)
    phi = np.arctan2(across, along)
    outline = 1 + sum(
        rng.normal(0, wobble / order**0.5) * np.cos(order * phi + rng.uniform(0, 2 * math.pi)) for order in range(2, 6)
    )
    depth_um = (outline - np.hypot(along, across)) * min(length, width) / 2  # below the outline, about
    cover = np.clip(depth_um / (0.6 + mpp) + 0.5, 0, 1)
    y0, x0 = rng.integers(TILE_PX - len(cover), size=2)
    grain = chromatin[y0 : y0 + len(cover), x0 : x0 + len(cover)]
    ink = inside * (1 + clump * grain) + (rim - inside) * np.exp(-((depth_um / 0.8) ** 2))
    for _ in range(nucleoli):
        radius = rng.uniform(0.08, 0.5) * width / 2
        angle, size_um = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1.3)
        spot = (x_um - radius * math.cos(angle)) ** 2 + (y_um - radius * math.sin(angle)) ** 2
        ink += 0.9 * np.exp(-spot / size_um**2)
    ink = np.clip(ink, 0.08, 2.6).astype(np.float32)
    ids = (cover > 0.5).astype(np.int32) if counted else np.zeros(cover.shape, np.int32)
    return Stamp(cover.astype(np.float32), ink, np.full(cover.shape, 0.22, np.float32), ids)
