"""Six tissues that differ in structure, painted as concentrations of haematoxylin and eosin."""

import math

import numpy as np
from scipy.spatial import cKDTree

from pathssl.slides.synthetic.glands import gland_library
from pathssl.slides.synthetic.noise import look_up, seamless_tile, smooth_field, spline_surface
from pathssl.slides.synthetic.nuclei import Canvas, Stamp, library, pointing, press

TISSUES = ("fat", "glands", "lymphocytes", "necrosis", "stroma", "tumour")
GLASS = 0
FAT, GLANDS, LYMPHOCYTES, NECROSIS, STROMA, TUMOUR = range(1, 7)  # TISSUES[k - 1] is the name of k


class Painter:
    """Paints one picture; `plan` (H, W) uint8 holds the tissue wanted at each pixel, or GLASS.

    `library_seed` chooses the stamps (one set a cohort); everything else comes from `rng`.
    """

    def __init__(self, plan: np.ndarray, mpp: float, rng: np.random.Generator, library_seed: int):
        self.mpp, self.rng, self.library_seed = mpp, rng, library_seed
        planes = (np.zeros(plan.shape, kind) for kind in (np.float32, np.float32, np.int32))
        self.canvas = Canvas(*planes, structure=plan.copy())
        self.structure = self.canvas.structure
        self.fine = seamless_tile(library_seed, 0.6 / mpp)
        self.medium = seamless_tile(library_seed, 3.5 / mpp)
        self.density = smooth_field(rng, plan.shape, 110 / mpp)
        self.looseness = smooth_field(rng, plan.shape, 110 / mpp)
        self.bend = [smooth_field(rng, plan.shape, 130 / mpp) * np.float32(42) for _ in range(2)]
        self.grain_angle = rng.uniform(0, math.pi)

    def paint(self) -> Canvas:
        if (self.structure == FAT).any():
            self._fat()
        around_glands = self.structure == GLANDS
        self.structure[around_glands] = STROMA
        if (self.structure == STROMA).any():
            self._fibres()
            self._glands(around_glands)
            self._fibroblasts()
        for tissue, method in ((NECROSIS, self._necrosis), (LYMPHOCYTES, self._lymphocytes), (TUMOUR, self._tumour)):
            wanted = self.structure == tissue
            if wanted.any():
                method(wanted)
        return self.canvas

    # ---- the six tissues ----------------------------------------------------------------------------------------

    def _fibres(self) -> None:
        """Wavy collagen in bundles, with clefts."""
        fibre = seamless_tile(self.library_seed, (1.6, 28.0))
        bundle = seamless_tile(self.library_seed, (7.0, 60.0))
        y, x = np.nonzero(self.structure == STROMA)
        along_um, across_um = self._flow(y, x)
        strand = look_up(fibre, across_um / 0.45, along_um / 0.45)
        strands = look_up(bundle, across_um / 0.45, along_um / 0.45)
        cleft = np.clip((strands + 0.35 * strand + 1.1 - 0.5 * self.looseness[y, x]) * 2.2, 0.06, 1)
        self.canvas.eosin[y, x] = np.clip(0.62 + 0.16 * strand + 0.12 * strands, 0.05, None) * cleft
        self.canvas.haematoxylin[y, x] = np.clip(0.10 + 0.05 * strand, 0, None) * cleft

    def _fibroblasts(self) -> None:
        """Spindle nuclei along the fibres and a few lymphocytes."""
        spindle, lymphocyte = self._library("spindle"), self._library("lymphocyte")
        spots = self._scatter(self.structure == STROMA, 13.5, keep=0.62 + 0.22 * self.density)
        y, x = spots.T
        _, across = self._flow(y, x)
        angles = np.arctan2(-(self._flow(y, x + 2)[1] - across), self._flow(y + 2, x)[1] - across)
        for (y_px, x_px), angle in zip(spots, angles, strict=True):  # along the lines of equal `across`
            if self.rng.random() < 0.07:
                press(self.canvas, self._any(lymphocyte), y_px, x_px, 0.15)
            else:
                press(self.canvas, pointing(spindle, angle + self.rng.normal(0, 0.12), self.rng), y_px, x_px, 0.15)

    def _fat(self) -> None:
        """Large empty cells with thin membranes and flat nuclei in them; whole cells only, so the rest turns stroma."""
        shape, tissue = self.structure.shape, self.structure != GLASS
        seeds = self._scatter(np.ones(shape, bool), self.rng.uniform(36, 52))
        own = self.structure[tuple(seeds.astype(np.int64).T)] == FAT
        self.structure[self.structure == FAT] = STROMA
        border_um, cell = self._cells(tissue, seeds, 1.3)
        inside = tissue & np.append(own, False)[cell]
        self.structure[inside] = FAT
        y, x = np.nonzero(inside)
        wall = np.clip(1.7 - border_um[y, x], 0, 1)
        self.canvas.eosin[y, x] = 0.03 + wall * np.clip(0.5 + 0.15 * look_up(self.fine, y, x), 0.15, None)
        self.canvas.haematoxylin[y, x] = 0.10 * wall
        flat = self._library("flat")
        for y_px, x_px in seeds[own][self.rng.random(own.sum()) < 0.75]:
            toward = self.rng.uniform(0, 2 * math.pi)
            radii_px = np.arange(8, 45, 0.5) / self.mpp  # from the cell's middle to its wall
            walk = np.stack((y_px + radii_px * math.sin(toward), x_px + radii_px * math.cos(toward))).astype(np.int64)
            walk = walk[:, ((walk >= 0) & (walk < np.array(shape)[:, None])).all(axis=0)]
            hits = np.flatnonzero(border_um[tuple(walk)] < 1.0)
            if len(hits):
                press(self.canvas, pointing(flat, toward + math.pi / 2, self.rng), *walk[:, hits[0]], 0.2)

    def _glands(self, wanted: np.ndarray) -> None:
        """Glands of all sizes, as many as find room, each `wanted` at its centre."""
        glands = gland_library(self.mpp, self.library_seed, GLANDS)
        for y_px, x_px in self._scatter(wanted, 22):
            press(self.canvas, self._any(glands), y_px, x_px, 0.0)

    def _lymphocytes(self, wanted: np.ndarray) -> None:
        """Small round dark nuclei, nearly touching, on little pale cytoplasm."""
        y, x = np.nonzero(wanted)
        matrix = 0.40 + 0.08 * look_up(self.medium, y, x) + 0.05 * look_up(self.fine, y, x)
        matrix = np.clip(matrix, 0.02, None) * self._gaps(y, x)
        self.canvas.eosin[y, x] = matrix
        self.canvas.haematoxylin[y, x] = 0.3 * matrix
        stamps = self._library("lymphocyte")
        for y_px, x_px in self._scatter(wanted, self.rng.uniform(8.0, 10.0), keep=0.66 + 0.2 * self.density):
            press(self.canvas, self._any(stamps), y_px, x_px, 0.12)

    def _tumour(self, wanted: np.ndarray) -> None:
        """Large irregular pale nuclei with nucleoli in polygonal cells."""
        seeds = self._scatter(wanted, self.rng.uniform(14.5, 19), keep=0.8 + 0.2 * self.density)
        border_um, cell = self._cells(wanted, seeds, 0.8)
        y, x = np.nonzero(wanted)
        shade = self.rng.normal(0, 0.06, len(seeds) + 1).astype(np.float32)[cell[y, x]]
        body = 0.47 + shade + 0.06 * look_up(self.fine, y, x) + 0.05 * look_up(self.medium, y, x)
        edge = np.clip(1 - np.abs(border_um[y, x]) / 0.9, 0, 1)
        gaps = self._gaps(y, x)
        self.canvas.eosin[y, x] = np.clip(body + 0.16 * edge, 0.05, None) * gaps
        self.canvas.haematoxylin[y, x] = np.clip(0.16 + shade + 0.05 * look_up(self.fine, x, y), 0.02, None) * gaps
        stamps, lymphocyte = self._library("tumour"), self._library("lymphocyte")
        for y_px, x_px in seeds:
            few = self.rng.random() < 0.05
            press(self.canvas, self._any(lymphocyte if few else stamps), y_px, x_px, 0.15)

    def _necrosis(self, wanted: np.ndarray) -> None:
        """Granular eosin without cells: ghosts of nuclei and dark debris, in heaps."""
        y, x = np.nonzero(wanted)
        grain = 0.15 * look_up(self.fine, y, x) + 0.13 * look_up(self.medium, y, x)
        gaps = self._gaps(y, x)
        self.canvas.eosin[y, x] = np.clip(0.56 + grain, 0.08, None) * gaps
        self.canvas.haematoxylin[y, x] = np.clip(0.16 + 0.05 * look_up(self.medium, x, y), 0.02, None) * gaps
        for kind, spacing_um, keep in (("ghost", 15, 0.5), ("debris", 5.0, 0.5 + 0.3 * self.density)):
            stamps = self._library(kind)
            for y_px, x_px in self._scatter(wanted, spacing_um, keep=keep):
                press(self.canvas, self._any(stamps), y_px, x_px, 0.15)

    # ---- what they share ----------------------------------------------------------------------------------------

    def _library(self, kind: str) -> list[Stamp]:
        return library(kind, self.mpp, self.library_seed)

    def _any(self, stamps: list[Stamp]) -> Stamp:
        return stamps[self.rng.integers(len(stamps))]

    def _gaps(self, y_px: np.ndarray, x_px: np.ndarray) -> np.ndarray:
        """The share of the matrix that holds at each pixel: torn and swollen where the tissue is loose."""
        return np.clip(1.7 + 0.8 * look_up(self.medium, x_px, -y_px) - 0.6 * self.looseness[y_px, x_px], 0.08, 1)

    def _flow(self, y_px: np.ndarray, x_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates in um along and across the bent, crimped fibres at these pixels."""
        rows = np.clip(y_px, 0, self.structure.shape[0] - 1).astype(np.int64)
        columns = np.clip(x_px, 0, self.structure.shape[1] - 1).astype(np.int64)
        cosine, sine = math.cos(self.grain_angle), math.sin(self.grain_angle)
        y_um, x_um = y_px.astype(np.float32) * self.mpp, x_px.astype(np.float32) * self.mpp
        along = x_um * cosine + y_um * sine + self.bend[0][rows, columns]
        across = y_um * cosine - x_um * sine + self.bend[1][rows, columns]
        return along, across + 2.2 * np.sin(along * (2 * math.pi / 38) + self.bend[1][rows, columns] / 9)

    def _scatter(self, wanted: np.ndarray, spacing_um: float, keep: float | np.ndarray = 1.0) -> np.ndarray:
        """(n, 2) float64 positions (y, x) in px, about `spacing_um` apart, where `wanted`; in random order.

        A hexagonal lattice with jitter; `keep` is the share that stays, a number or a map.
        """
        step_px = spacing_um / self.mpp
        row, column = np.mgrid[0 : wanted.shape[0] / (step_px * 0.866) + 1, 0 : wanted.shape[1] / step_px + 1]
        spots = np.stack((row * 0.866, column + 0.5 * (row % 2)), axis=-1).reshape(-1, 2)
        spots = (spots + self.rng.uniform(-0.36, 0.36, spots.shape)) * step_px
        spots = spots[((spots >= 0) & (spots < wanted.shape)).all(axis=1)]
        y, x = spots.astype(np.int64).T
        share = keep[y, x] if isinstance(keep, np.ndarray) else keep
        stays = wanted[y, x] & (self.rng.random(len(spots)) < share)
        return self.rng.permutation(spots[stays])

    def _cells(self, wanted: np.ndarray, seeds: np.ndarray, wobble_um: float) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) float32 distance in um to the border between Voronoi cells of `seeds`, and (H, W) int32 cell.

        Computed at every second pixel; cells at the rim of the picture and outside `wanted` mean nothing.
        """
        coarse = np.nonzero(wanted[::2, ::2])
        spots = np.stack(coarse, axis=-1) * 2.0
        wave = 1.4 * look_up(self.medium, *(spots.T)), 1.4 * look_up(self.medium, *(spots.T[::-1]))
        spots += np.stack(wave, axis=-1) * wobble_um / self.mpp
        near_px, nearest = cKDTree(seeds).query(spots, k=2)  # a neighbour that is missing: infinitely far, number n
        near_px = np.minimum(near_px, 1e4)
        half = [-(-side // 2) for side in wanted.shape]
        border = np.zeros([side + 4 for side in half], np.float32)
        border[coarse[0] + 1, coarse[1] + 1] = (near_px[:, 1] - near_px[:, 0]) / 2 * self.mpp
        cell = np.zeros(half, np.int32)
        cell[coarse] = nearest[:, 0]
        cell = cell.repeat(2, axis=0).repeat(2, axis=1)[: wanted.shape[0], : wanted.shape[1]]
        return spline_surface(border, wanted.shape, 2.0), cell
