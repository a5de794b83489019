"""A miniature of TCGA as GDC's client leaves it, with labels of cases."""

from pathlib import Path

import numpy as np
import tifffile
from miniatures import tissue

SITES = ("A2", "BH", "CR", "E9")


def tcga(root: Path, *, cases: int = 12, size: int = 512) -> list[str]:
    """Writes `root`/<uuid>/<barcode>.<uuid>.svs, a diagnostic slide of each case and a second one of every third; gives the cases.

    Cases of odd number are of another tint.
    """
    names = [f"TCGA-{SITES[k // 3 % len(SITES)]}-{k:04d}" for k in range(cases)]
    for k, case in enumerate(names):
        for slide in (1, 2)[: 1 + (k % 3 == 0)]:
            uuid = f"{k:08x}-0000-0000-0000-{slide:012x}"
            (root / uuid).mkdir(parents=True)
            path = root / uuid / f"{case}-01Z-00-DX{slide}.{uuid.upper()}.svs"
            write_svs(path, tissue((size, size), hue=3 * (k % 2), seed=10 * k + slide))
    return names


def write_svs(path: Path, pixels: np.ndarray, mpp: float = 0.5) -> None:
    """One level of JPEG tiles, described as Aperio does."""
    height, width = pixels.shape[:2]
    described = f"Aperio Image Library v12.0.15\r\n{width}x{height} (256x256) JPEG/RGB Q=90|AppMag = 20|MPP = {mpp}"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, tile=(256, 256), compression="jpeg", photometric="rgb", description=described, metadata=None)


def write_labels(path: Path, rows: list[tuple[str, ...]], header: str = "case,label") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path
