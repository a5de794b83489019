"""BACH as it is handed out, in miniature: its split, its order of classes, and what is missing of it or not in its place."""

from itertools import pairwise

import numpy as np
import pytest
from miniatures import bach

from pathssl.errors import UserError
from pathssl.probes.datasets.bach import TRAIN, bach_task

SETTINGS = {"counts": {"train": 268, "val": 132}, "scored": "val"}
SETTINGS |= {"image_px": 16, "val_fraction": 0.2, "threads": 2, "cache_mib": 10}
# Of the authors of eva; the paper's facts name those of train alone.
VAL = ((41, 59), (60, 90), (139, 169), (240, 258), (260, 273), (345, 368))


@pytest.fixture
def folder(tmp_path):
    return bach(tmp_path, size=(64, 48))


def test_the_split_goes_by_place(folder):
    task = bach_task(path=str(folder), **SETTINGS)
    assert task.classes == ("Benign", "InSitu", "Invasive", "Normal")
    assert np.flatnonzero(task.splits_N == "train").tolist() == [k for first, end in TRAIN for k in range(first, end)]
    assert np.flatnonzero(task.splits_N == "val").tolist() == [k for first, end in VAL for k in range(first, end)]
    assert task.labels_N.tolist() == [k for k in range(4) for _ in range(100)]
    assert [name.rsplit("/", 1)[1] for name in task.ids_N[[0, 99, 100, 399]]] == [
        "b001.tif",
        "b100.tif",
        "is001.tif",
        "n100.tif",
    ]
    assert task.describe()["images"] == {
        "shorter_side_px": [48, 48],
        "image_px": 16,
        "mpp": 0.42,
        "seen_mpp": [1.26, 1.26],
    }


def test_what_is_published_as_validation_may_be_the_test(folder):
    task = bach_task(path=str(folder), **SETTINGS | {"scored": "test"})
    assert task.val_taken_from_train and (task.splits_N == "test").sum() == 132
    assert (task.splits_N == "train").sum() + (task.splits_N == "val").sum() == 268


def test_what_is_missing_or_astray_is_named(folder):
    photos = folder / "ICIAR2018_BACH_Challenge" / "Photos"
    with pytest.raises(UserError, match=r"BACH is not at .*nowhere\. It is to be had from https://zenodo"):
        bach_task(path=str(folder / "nowhere"), **SETTINGS)
    (photos / "Benign" / "b007.tif").rename(photos / "Normal" / "b007.tif")
    with pytest.raises(UserError, match=r"Normal/b007\.tif does not belong there: Normal has n001"):
        bach_task(path=str(folder), **SETTINGS)
    (photos / "Normal" / "b007.tif").unlink()
    with pytest.raises(UserError, match=r"not as published: 267 of 268 in train \(of train: Benign 51, InSitu 70, "):
        bach_task(path=str(folder), **SETTINGS)
    assert len(bach_task(path=str(folder), **SETTINGS | {"counts": None})) == 399
    for path in (photos / "InSitu").iterdir():
        path.unlink()
    (photos / "InSitu").rmdir()
    with pytest.raises(UserError, match=r"BACH is not whole: InSitu is not in .*Photos"):
        bach_task(path=str(folder), **SETTINGS)
    assert all(end <= first for (_, end), (first, _) in pairwise(sorted((*TRAIN, *VAL))))
