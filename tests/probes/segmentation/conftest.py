"""A small folder of images and masks: squares of class 1 and bars of class 2 on a background, of two sizes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pathssl.probes.segmentation.folder import masks_task

SETTINGS = {
    "table": "masks.csv",
    "image_column": "path",
    "image_px": 16,
    "classes": None,
    "background": True,
    "ignore": None,
    "instances": False,
    "val_fraction": 0.25,
    "threads": 2,
    "cache_mib": 10,
}


def make_mask(k: int) -> np.ndarray:
    mask = np.zeros((32, 40) if k % 2 else (32, 32), np.uint8)
    mask[4 + k % 3 : 14, 8:24] = 1
    mask[20:28, 2 + k % 5 : 30] = 2
    return mask


def write_table(folder: Path, rows: list[dict[str, str]]) -> None:
    (folder / "masks.csv").write_text("\n".join([",".join(rows[0])] + [",".join(row.values()) for row in rows]) + "\n")


@pytest.fixture
def rows() -> list[dict[str, str]]:
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    return [
        {"path": f"{k:02d}.png", "mask": f"{k:02d}_mask.png", "split": split, "group_id": f"case{k // 2}"}
        for k, split in enumerate(splits)
    ]


@pytest.fixture
def folder(tmp_path, rows) -> Path:
    rng = np.random.default_rng(0)
    for k, row in enumerate(rows):
        mask = make_mask(k)
        image = rng.integers(0, 60, (*mask.shape, 3), dtype=np.uint8) + (mask * 90)[..., None].astype(np.uint8)
        Image.fromarray(image).save(tmp_path / row["path"])
        Image.fromarray(mask).save(tmp_path / row["mask"])
    write_table(tmp_path, rows)
    return tmp_path


@pytest.fixture
def build(folder):
    return lambda **changed: masks_task(path=str(folder), **(SETTINGS | changed))


@pytest.fixture
def task(build):
    return build()


@pytest.fixture
def settings() -> dict:
    return dict(SETTINGS)


@pytest.fixture(name="write_table")
def write_table_fixture():
    return write_table


@pytest.fixture(name="make_mask")
def make_mask_fixture():
    return make_mask
