"""BreaKHis: four types of breast tumour at 40x (Spanhol et al. 2016), chosen and split by patient as eva does."""

import re
from pathlib import Path

import pandas as pd

from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.task import Task

BREAKHIS = Published(
    name="BreaKHis",
    classes=("TA", "MC", "F", "DC"),
    mpp=0.49,  # of the microscope's 40x, an objective of 4x: Spanhol et al.'s Table I; eva's page says 0.25
    obtain="http://www.inf.ufpr.br/vri/databases/BreaKHis_v1.tar.gz (to be unpacked)",
)
# All types, of which eva takes those with seven patients or more.
_TYPES = {
    "A": "benign/SOB/adenosis",
    "F": "benign/SOB/fibroadenoma",
    "PT": "benign/SOB/phyllodes_tumor",
    "TA": "benign/SOB/tubular_adenoma",
    "DC": "malignant/SOB/ductal_carcinoma",
    "LC": "malignant/SOB/lobular_carcinoma",
    "MC": "malignant/SOB/mucinous_carcinoma",
    "PC": "malignant/SOB/papillary_carcinoma",
}
# eva's patients of validation. Four of them share their number, but for letters, with one in train (16184, 23060AB, 18842, 19979C): the
# authors count 82 patients with the letters.
VAL = {"16184CD", "15275", "18842D", "19979", "23060CD", "21998CD", "21998EF"}
VAL |= {"15792", "16875", "3909", "5287", "16716", "2773", "5695"}


def breakhis_task(*, path: str, counts: Counts | None, scored: str, **settings) -> Task:
    """The task of `path`/BreaKHis_v1/histology_slides/breast, of its images at 40X; counts, scored: see published.py, the rest: see `Task`.

    Its files are <benign|malignant>/SOB/<type>/SOB_B_TA_14-4659/40X/SOB_B_TA-14-4659-40-001.png, where 4659 is the patient. Groups are
    called by the patient's folder: a number alone might be somebody's slide too.
    """
    folder = BREAKHIS.root(path)
    breast = BREAKHIS.part(folder, "BreaKHis_v1", "histology_slides", "breast")
    for name in BREAKHIS.classes:
        BREAKHIS.part(breast, *_TYPES[name].split("/"))
    found = [_row(file, folder, breast) for file in sorted(breast.glob("**/40X/*.png"))]
    rows = pd.DataFrame(found, columns=["path", "label", "split", "group"])
    rows = rows[rows["label"].isin(BREAKHIS.classes)]
    return BREAKHIS.task(rows, folder, counts=counts, scored=scored, **settings)


def _row(file: Path, folder: Path, breast: Path) -> dict[str, str]:
    """Label, split and group by a file's name, which its folders must repeat."""
    found = re.fullmatch(r"(SOB_[BM]_([A-Z]+))-(\d\d-([0-9A-Z]+))-40-\d{3}", file.stem)
    if not found or found[2] not in _TYPES:
        raise BREAKHIS.astray(
            file, f"names are as SOB_B_TA-14-4659-40-001.png, with one of the types {', '.join(_TYPES)}"
        )
    group, split = f"{found[1]}_{found[3]}", "val" if found[4] in VAL else "train"
    place = f"{_TYPES[found[2]]}/{group}/40X"
    if file.parent.relative_to(breast).as_posix() != place:
        raise BREAKHIS.astray(file, f"by its name its place is {place}")
    return {"path": file.relative_to(folder).as_posix(), "label": found[2], "split": split, "group": group}
