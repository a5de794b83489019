"""The index of slides as it is read: what is needed to sample from thousands of slides without touching one of them."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet

from pathssl.errors import UserError
from pathssl.slides import foreground
from pathssl.slides.slide import Slide, open_slide


@dataclass(frozen=True, eq=False)
class SlideIndex:
    """Slides by number k. Small columns are in memory; tissue and cells are mapped from disk, shared by processes."""

    folder: Path
    root: Path
    settings: dict
    paths: list[str]  # relative to root
    fingerprints: list[str]
    case: list[str]
    site: list[str]
    width: np.ndarray  # int64, level-0 pixels
    height: np.ndarray
    mpp: np.ndarray  # float64, um per level-0 pixel
    tissue_mm2: np.ndarray  # float64
    quarantined: list[tuple[str, str]]  # (path, reason)
    quarantine_fingerprints: list[str]
    _shape: np.ndarray  # (slides, 2) int64: rows and columns of each grid
    _tissue_start: np.ndarray  # (slides + 1,) int64
    _cells_start: np.ndarray
    _tissue: np.ndarray  # flat uint8
    _cells: np.ndarray  # flat int32

    @classmethod
    def load(cls, folder: Path, root: Path | None = None) -> "SlideIndex":
        """The index in `folder`; `root` where the slides have moved since it was built."""
        folder = Path(folder)
        if not (folder / "index.json").is_file():
            raise UserError(f"There is no index of slides in {folder}: python -m pathssl index builds it.")
        facts = json.loads((folder / "index.json").read_text())
        table = pyarrow.parquet.read_table(folder / "slides.parquet")
        shape = np.stack([table["rows"].to_numpy(), table["columns"].to_numpy()], axis=1)
        return cls(
            folder=folder,
            root=Path(root if root is not None else facts["root"]),
            settings=facts["settings"],
            paths=table["path"].to_pylist(),
            fingerprints=table["fingerprint"].to_pylist(),
            case=table["case"].to_pylist(),
            site=table["site"].to_pylist(),
            width=table["width"].to_numpy(),
            height=table["height"].to_numpy(),
            mpp=table["mpp"].to_numpy(),
            tissue_mm2=table["tissue_mm2"].to_numpy(),
            quarantined=[(path, reason) for path, _, reason in facts["quarantined"]],
            quarantine_fingerprints=[fingerprint for _, fingerprint, _ in facts["quarantined"]],
            _shape=shape,
            _tissue_start=np.concatenate([[0], np.cumsum(shape.prod(axis=1))]),
            _cells_start=np.concatenate([[0], np.cumsum(table["cells"].to_numpy())]),
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

    def overlap(self, k: int, x0: float, y0: float, mpp: float, size: int) -> float:
        """The tissue fraction of the patch that `Slide.read(x0, y0, mpp, size)` gives; outside the slide is none."""
        cells_per_px = float(self.mpp[k]) / self.cell_um
        return foreground.overlap(self.tissue(k), x0 * cells_per_px, y0 * cells_per_px, size * mpp / self.cell_um)

    def overlaps(self, k: int, x0: np.ndarray, y0: np.ndarray, mpp: float, size: int) -> np.ndarray:
        """(N,) float64: `overlap` for N patches of one slide and magnification."""
        cells_per_px = float(self.mpp[k]) / self.cell_um
        left, top = np.asarray(x0) * cells_per_px, np.asarray(y0) * cells_per_px
        return foreground.overlaps(self.tissue(k), left, top, size * mpp / self.cell_um)

    def open(self, k: int) -> Slide:
        return open_slide(self.root / self.paths[k], float(self.mpp[k]), self.settings["reader"])


def _reload(folder: Path, root: Path, digest: int) -> SlideIndex:
    """The index as another process knows it: numbers of slides mean nothing once it was built anew with others."""
    index = SlideIndex.load(folder, root)
    if index._digest() != digest:
        raise UserError(f"The index of slides in {folder} changed while this run was starting: repeat the command.")
    return index
