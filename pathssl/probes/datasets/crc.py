"""CRC: nine tissues of colorectal cancer, NCT-CRC-HE-100K and CRC-VAL-HE-7K (Kather et al. 2018), in the split of eva."""

import re
from pathlib import Path

import pandas as pd

from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.task import Task

CRC = Published(
    name="CRC",
    classes=("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM"),
    mpp=0.5,
    obtain="https://zenodo.org/records/1214456 (NCT-CRC-HE-100K.zip and CRC-VAL-HE-7K.zip, both to be unpacked)",
)
_FOLDERS = {"train": "NCT-CRC-HE-100K", "val": "CRC-VAL-HE-7K"}


def crc_task(*, path: str, counts: Counts | None, scored: str, **settings) -> Task:
    """The task of `path`/NCT-CRC-HE-100K/<class>/*.tif and `path`/CRC-VAL-HE-7K; counts, scored: see published.py, the rest: see `Task`.

    Names tell the class, but neither patient nor part. So there are no groups: patients of the validation that scored=test takes
    out of train may be in train too; and images that swap parts within a class are not found.
    """
    folder = CRC.root(path)
    rows = pd.DataFrame(
        [
            {"path": file.relative_to(folder).as_posix(), "label": _label(file), "split": split}
            for split, name in _FOLDERS.items()
            for file in CRC.files(CRC.part(folder, name), "*.tif")
        ],
        columns=["path", "label", "split"],
    )
    return CRC.task(rows, folder, counts=counts, scored=scored, **settings)


def _label(file: Path) -> str:
    label = file.parent.name
    if not re.fullmatch(rf"{label}-(TCGA-)?[A-Z]{{8}}", file.stem):
        raise CRC.astray(file, f"{'/'.join(file.parts[-3:-1])} has {label}- or {label}-TCGA- and eight letters")
    return label
