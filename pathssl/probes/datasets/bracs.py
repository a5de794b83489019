"""BRACS: regions of breast lesions of seven classes (Brancati et al. 2022), in their published split."""

import re
from pathlib import Path

import pandas as pd

from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.task import Task

BRACS = Published(
    name="BRACS",
    classes=("0_N", "1_PB", "2_UDH", "3_FEA", "4_ADH", "5_DCIS", "6_IC"),
    mpp=0.25,
    obtain="https://www.bracs.icar.cnr.it/download (the folder BRACS_RoI, of which latest_version is read)",
)
_SPLITS = ("train", "val", "test")


def bracs_task(*, path: str, counts: Counts | None, **settings) -> Task:
    """The task of `path`/BRACS_RoI/latest_version/<split>/<class>/*.png; counts: see published.py, the rest: see `Task`.

    The slide that a region is from, which its name tells, is its group. Names do not tell the split: whole slides that have swapped splits,
    with as many regions each, are not found.
    """
    folder = BRACS.root(path)
    version = BRACS.part(folder, "BRACS_RoI", "latest_version")
    rows = pd.DataFrame(
        [
            {
                "path": file.relative_to(folder).as_posix(),
                "label": file.parent.name,
                "split": split,
                "group": _slide(file),
            }
            for split in _SPLITS
            for file in BRACS.files(BRACS.part(version, split), "*.png")
        ],
        columns=["path", "label", "split", "group"],
    )
    return BRACS.task(rows, folder, counts=counts, **settings)


def _slide(file: Path) -> str:
    lesion = file.parent.name.split("_")[1]
    found = re.fullmatch(rf"(BRACS_[0-9A-Za-z]+)_{lesion}_\d+", file.stem)
    if not found:
        raise BRACS.astray(file, f"{'/'.join(file.parts[-3:-1])} has names as BRACS_264_{lesion}_1.png")
    return found[1]
