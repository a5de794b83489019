"""The index of slides as it is read: what is needed to sample from thousands of slides without touching one of them."""

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from pathssl.errors import UserError
from pathssl.slides import foreground
from pathssl.slides.footprint import windows
from pathssl.slides.remote.place import Place
from pathssl.slides.slide import COARSER, SAME_SCALE, Slide, open_slide
from pathssl.slides.structure import Structure

VERSION = 2  # of the files and of what is found in slides; an index of another version is built anew


@dataclass(frozen=True, eq=False)
class SlideIndex:
    """Slides by number k. Small columns are in memory; tissue and cells are mapped from disk, shared by processes."""

    folder: Path
    root: Path | Place
    settings: dict
    paths: list[str]  # relative to root
    fingerprints: list[str]
    case: list[str]
    site: list[str]
    split: list[str]  # what the manifest says: see `catalogue.SPLITS`
    weight: np.ndarray  # float64, of the manifest; 1 where it says nothing
    width: np.ndarray  # int64, level-0 pixels
    height: np.ndarray
    mpp: np.ndarray  # float64, um per level-0 pixel
    tissue_mm2: np.ndarray  # float64
    quarantined: list[tuple[str, str]]  # (path, reason)
    quarantine_fingerprints: list[str]
    downsamples: np.ndarray  # (slides, levels) float64, level-0 pixels per level pixel, ascending, then inf
    tile_width: np.ndarray  # (slides, levels) int64, level pixels, then 1
    tile_height: np.ndarray
    _vendors: list[str | None]
    _file: np.ndarray  # (slides, 2) int64: bytes and time of modification
    _levels: np.ndarray  # flat, `structure.LEVEL`
    _levels_start: np.ndarray  # (slides + 1,) int64
    _shape: np.ndarray  # (slides, 2) int64: rows and columns of each grid
    _tissue_start: np.ndarray  # (slides + 1,) int64
    _cells_start: np.ndarray
    _tissue: np.ndarray  # flat uint8
    _cells: np.ndarray  # flat int32

    @classmethod
    def load(cls, folder: Path, root: Path | Place | None = None) -> "SlideIndex":
        """The index in `folder`; `root` where the slides have moved since it was built."""
        folder = Path(folder)
        if not (folder / "index.json").is_file():
            raise UserError(f"There is no index of slides in {folder}: python -m pathssl index builds it.")
        facts = json.loads((folder / "index.json").read_text())
        if (found := facts.get("version", 1)) != VERSION:
            raise UserError(
                f"The index of slides in {folder} has version {found}, and this pathssl reads {VERSION}: "
                "python -m pathssl index builds it anew."
            )
        # Not `read_table` nor `to_numpy`, which import data sets and pandas: a second and 40 MiB in each worker.
        table = pyarrow.parquet.ParquetFile(folder / "slides.parquet").read(use_threads=False)
        levels = np.asarray(np.load(folder / "levels.npy", mmap_mode="r"))
        counts = _numbers(table, "levels")
        shape = np.stack([_numbers(table, "rows"), _numbers(table, "columns")], axis=1)
        return cls(
            folder=folder,
            root=root if isinstance(root, Place) else Path(root if root is not None else facts["root"]),
            settings=facts["settings"],
            paths=table["path"].to_pylist(),
            fingerprints=table["fingerprint"].to_pylist(),
            case=table["case"].to_pylist(),
            site=table["site"].to_pylist(),
            split=table["split"].to_pylist() if "split" in table.column_names else [""] * len(table),
            weight=_numbers(table, "weight") if "weight" in table.column_names else np.ones(len(table)),
            width=_numbers(table, "width"),
            height=_numbers(table, "height"),
            mpp=_numbers(table, "mpp"),
            tissue_mm2=_numbers(table, "tissue_mm2"),
            quarantined=[(path, reason) for path, _, reason in facts["quarantined"]],
            quarantine_fingerprints=[fingerprint for _, fingerprint, _ in facts["quarantined"]],
            downsamples=_by_slide(levels["downsample"], counts, np.inf),
            tile_width=_by_slide(levels["tile_width"], counts, 1),
            tile_height=_by_slide(levels["tile_height"], counts, 1),
            _vendors=table["vendor"].to_pylist(),
            _file=np.stack([_numbers(table, "file_bytes"), _numbers(table, "modified_ns")], axis=1),
            _levels=levels,
            _levels_start=np.concatenate([[0], np.cumsum(counts)]),
            _shape=shape,
            _tissue_start=np.concatenate([[0], np.cumsum(shape.prod(axis=1))]),
            _cells_start=np.concatenate([[0], np.cumsum(_numbers(table, "cells"))]),
            _tissue=np.asarray(np.memmap(folder / "tissue.u8", np.uint8, "r")),
            _cells=np.asarray(np.memmap(folder / "cells.i32", np.int32, "r")),
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __reduce__(self) -> tuple[Callable, tuple]:
        return _reload, (self.folder, self.root, self._digest())

    def _digest(self) -> int:
        return zlib.crc32("\n".join(self.paths).encode())

    @property
    def unreachable(self) -> list[tuple[str, str]]:
        """The quarantined slides whose fault may pass (network, file server), as (path, reason)."""
        return [
            row
            for row, fingerprint in zip(self.quarantined, self.quarantine_fingerprints, strict=True)
            if not fingerprint
        ]

    @property
    def cell_um(self) -> float:
        """Side of a cell of the tissue grids."""
        return self.settings["cell_um"]

    def tissue(self, k: int) -> np.ndarray:
        """(rows, columns) uint8: the tissue fraction of each cell of slide k, 255 = all tissue."""
        return self._tissue[self._tissue_start[k] : self._tissue_start[k + 1]].reshape(self._shape[k])

    def cells(self, k: int) -> np.ndarray:
        """(N,) int32: cells of slide k with at least min_tissue, as row * columns + column; never empty."""
        return self._cells[self._cells_start[k] : self._cells_start[k + 1]]

    def cell(self, k: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(column, row), arrays: of slides k, the cells at the fractions u, in [0, 1), of their lists of cells."""
        start = self._cells_start[k]
        cell = self._cells[start + (u * (self._cells_start[k + 1] - start)).astype(np.int64)]
        row, column = np.divmod(cell, self._shape[k, 1])
        return column, row

    def source(self, k: np.ndarray, mpp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((N,) level that `Slide.read` takes for `mpp`, (N,) its pixels per pixel of `mpp`), for slides that are fine enough for it."""
        fits = self.mpp[k][:, None] * self.downsamples[k] <= COARSER * mpp[:, None]
        level = np.count_nonzero(fits, axis=1) - 1
        ratio = mpp / (self.mpp[k] * self.downsamples[k, level])
        return level, np.where(np.abs(ratio - 1) < SAME_SCALE, 1.0, ratio)

    def overlaps(self, k: np.ndarray, x0: np.ndarray, y0: np.ndarray, mpp: float | np.ndarray, size: int) -> np.ndarray:
        """(N,) float64: the tissue fraction of the patches that `Slide.read(x0, y0, mpp, size)` gives; outside the slide is none."""
        corner = np.stack([y0, x0], axis=1) * (self.mpp[k] / self.cell_um)[:, None]
        side = np.broadcast_to(size * np.asarray(mpp) / self.cell_um, len(k))
        return foreground.overlaps(self._tissue, self._tissue_start[k], self._shape[k], corner, side)

    def open(self, k: int) -> Slide:
        """The slide; what the index knows of its file is not looked for again. OSError where another slide has taken its place."""
        return open_slide(self.root / self.paths[k], float(self.mpp[k]), self.settings["reader"], self.structure(k))

    @property
    def by_url(self) -> bool:
        return isinstance(self.root, Place)

    def bring(self, patches: Sequence[tuple[int, Sequence[int], Sequence[int], float]], size: int) -> None:
        """Brings what reading patches of slides by URL takes to this machine, for all together: fewer waits than one after the other.

        patches: (slide, x0 of each, y0 of each, mpp) of those that are read together.
        """
        from pathssl.slides.remote.ahead import Wanted, bring  # here: what talks to servers takes a while to import

        k, mpp = np.array([each[0] for each in patches]), np.array([each[3] for each in patches])
        wanted: dict[int, Wanted] = {}
        for (slide, x0, y0, _), level, ratio in zip(
            patches, *(each.tolist() for each in self.source(k, mpp)), strict=True
        ):
            if slide not in wanted:
                file = self.structure(slide)
                wanted[slide] = Wanted(self.root / self.paths[slide], file.file_bytes, file.modified_ns, file.layout)
            for left, top, right, bottom in windows(self.downsamples[slide, level], ratio, x0, y0, size):
                wanted[slide].add(level, left, top, right, bottom)
        bring(list(wanted.values()))

    def structure(self, k: int) -> Structure:
        levels = self._levels[self._levels_start[k] : self._levels_start[k + 1]].copy()
        # A fingerprint ends with the mpp that the manifest gave; without one, the index's is what the file states.
        stated = (float(self.mpp[k]),) * 2 if self.fingerprints[k].endswith("-None") else None
        return Structure(self._vendors[k], stated, levels, *self._file[k].tolist())


def _numbers(table: pyarrow.Table, column: str) -> np.ndarray:
    return np.from_dlpack(table[column].combine_chunks())


def _by_slide(values: np.ndarray, counts: np.ndarray, padding: float) -> np.ndarray:
    """(slides, most levels): the values of each slide's levels, which lie one after another, filled up with `padding`."""
    table = np.full((len(counts), counts.max(initial=0)), padding, values.dtype)
    table[np.arange(table.shape[1]) < counts[:, None]] = values
    return table


def _reload(folder: Path, root: Path | Place, digest: int) -> SlideIndex:
    """The index as another process knows it: numbers of slides mean nothing once it was built anew with others."""
    index = SlideIndex.load(folder, root)
    if index._digest() != digest:
        raise UserError(f"The index of slides in {folder} changed while this run was starting: repeat the command.")
    return index
