"""A small labelled folder in which colour alone tells the classes apart, and features like those of a real encoder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pathssl.probes.feature_set import FeatureSet, Split
from pathssl.probes.folder import folder_task

SETTINGS = {"image_px": 16, "val_fraction": 0.25, "threads": 2, "cache_mib": 10}
CLASSES = ("blue", "green", "red")


def make_rows(per_split: dict[str, int]) -> list[dict[str, str]]:
    """One row for each image: cases of four images, each with one class."""
    rows = []
    for split, cases in per_split.items():
        for case in range(cases):
            for k in range(4):
                label = CLASSES[case % 3]
                name = f"{split}_{case}_{k}.png"
                rows.append({"path": name, "label": label, "group_id": f"{split}{case}", "split": split})
    return rows


def write_folder(folder: Path, rows: list[dict[str, str]]) -> Path:
    """A folder with labels.csv and its images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for row in rows:
        image = rng.integers(0, 150, (16, 16, 3), dtype=np.uint8)
        image[..., 2 - CLASSES.index(row["label"])] += 60
        Image.fromarray(image).save(folder / row["path"])
    write_labels(folder, rows)
    return folder


def write_labels(folder: Path, rows: list[dict[str, str]]) -> None:
    lines = [",".join(rows[0])] + [",".join(row.values()) for row in rows]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def rows() -> list[dict[str, str]]:
    return make_rows({"train": 12, "val": 3, "test": 6})


@pytest.fixture
def folder(tmp_path, rows) -> Path:
    return write_folder(tmp_path / "labelled", rows)


@pytest.fixture
def task(folder):
    return folder_task(path=str(folder), **SETTINGS)


@pytest.fixture
def settings() -> dict:
    return dict(SETTINGS)


@pytest.fixture(name="make_rows")
def make_rows_fixture():
    return make_rows


@pytest.fixture(name="write_folder")
def write_folder_fixture():
    return write_folder


@pytest.fixture(name="write_labels")
def write_labels_fixture():
    return write_labels


@pytest.fixture(name="made_features")
def made_features_fixture():
    return made_features


def made_features(
    *, n_train: int, d: int, classes: int, distance: float, seed: int = 0, test: bool = True
) -> FeatureSet:
    """Gaussian classes in correlated features whose directions fade as a power law, as those of an encoder do."""
    rng = np.random.default_rng(seed)
    centres = distance * rng.normal(size=(classes, d))
    mixing = rng.normal(size=(d, d)) * np.arange(1, d + 1) ** -0.7

    def split(n: int) -> Split:
        labels = rng.integers(0, classes, n)
        features = ((centres[labels] + rng.normal(size=(n, d))) @ mixing + 3).astype(np.float32)
        ids = np.array([f"{n}_{k}" for k in range(n)])
        return Split(features, labels, ids, ids)

    train, val, held_out = split(n_train), split(n_train // 3), split(n_train // 2)
    return FeatureSet(tuple(map(str, range(classes))), train, val, held_out if test else None)
