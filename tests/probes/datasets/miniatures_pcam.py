"""A miniature of PCam: its file names, arrays and types, contiguous as they are handed out, or in compressed chunks."""

from pathlib import Path

import h5py
import numpy as np
from miniatures import tissue

COUNTS = {"train": 60, "val": 20, "test": 30}
NAMES = {"train": "train", "val": "valid", "test": "test"}


def pcam(root: Path, *, counts=COUNTS, compressed: bool = False, meta: bool = True, chunk_rows: int = 7) -> Path:
    """`root`/camelyonpatch_level_2_split_*_{x,y}.h5 and, with `meta`, ..._meta.csv: slides of five images each."""
    root.mkdir(parents=True, exist_ok=True)
    how = {"compression": "gzip"} if compressed else {}
    for k, (split, count) in enumerate(counts.items()):
        stem = root / f"camelyonpatch_level_2_split_{NAMES[split]}"
        labels = np.random.default_rng(k).permutation(np.arange(count) % 2).astype(np.uint8)
        images = [tissue((96, 96), hue=3 * label, seed=1000 * k + n) for n, label in enumerate(labels)]
        if compressed:
            how["chunks"] = (min(chunk_rows, count), 96, 96, 3)
        with h5py.File(f"{stem}_x.h5", "w") as file:
            file.create_dataset("x", data=np.stack(images), **how)
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file.create_dataset("y", data=labels.reshape(-1, 1, 1, 1))
        if meta:
            write_meta(root, split, [f"camelyon16_{split}_{n // 5:03d}" for n in range(count)], labels)
    return root


def write_meta(root: Path, split: str, slides: list[str], labels) -> None:
    """The table of a split as it is handed out: a column without a name, places, and the slide."""
    lines = [",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi"]
    lines += [
        f"{n},{100 * n},{200 * n},{bool(y)},{bool(y)},{slide}"
        for n, (y, slide) in enumerate(zip(labels, slides, strict=True))
    ]
    (root / f"camelyonpatch_level_2_split_{NAMES[split]}_meta.csv").write_text("\n".join(lines) + "\n")
