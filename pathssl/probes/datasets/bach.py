"""BACH: breast microscopy images of four classes (ICIAR 2018, Aresta et al. 2019), in the split of eva and arXiv 2404.15217."""

import re
from pathlib import Path

import pandas as pd

from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.task import Task

BACH = Published(
    name="BACH",
    classes=("Benign", "InSitu", "Invasive", "Normal"),
    mpp=0.42,
    obtain="https://zenodo.org/records/3632035 (ICIAR2018_BACH_Challenge.zip, to be unpacked)",
)
_FIRST = {
    "Benign": "b",
    "InSitu": "is",
    "Invasive": "iv",
    "Normal": "n",
}  # what the names of a class's files begin with
_PER_CLASS = 100
# Half-open ranges of the images' numbers, class after class. Who has no patient in both was found by the authors of eva.
TRAIN = ((0, 41), (59, 60), (90, 139), (169, 240), (258, 260), (273, 345), (368, 400))


def bach_task(*, path: str, counts: Counts | None, scored: str, **settings) -> Task:
    """The task of `path`/ICIAR2018_BACH_Challenge/Photos/<class>/*.tif; counts, scored: see published.py, the rest: see `Task`."""
    folder = BACH.root(path)
    photos = BACH.part(folder, "ICIAR2018_BACH_Challenge", "Photos")
    files = BACH.files(photos, "*.tif")
    rows = pd.DataFrame(
        {
            "path": [file.relative_to(folder).as_posix() for file in files],
            "label": [file.parent.name for file in files],
            "split": [_split(file) for file in files],
        }
    )
    return BACH.task(rows, folder, counts=counts, scored=scored, **settings)


def _split(file: Path) -> str:
    """By the number that an image has among all 400, which its name tells, so that a missing one moves no other."""
    label = file.parent.name
    found = re.fullmatch(rf"{_FIRST[label]}(\d{{3}})", file.stem)
    if not found or not 1 <= int(found[1]) <= _PER_CLASS:
        raise BACH.astray(file, f"{label} has {_FIRST[label]}001.tif to {_FIRST[label]}100.tif")
    number = BACH.classes.index(label) * _PER_CLASS + int(found[1]) - 1
    return "train" if any(first <= number < end for first, end in TRAIN) else "val"
