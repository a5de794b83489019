"""CoNSeP: nuclei of colorectal tissue by type (Graham et al. 2019), in their published parts and eva's five classes.

Axes: H, W pixels.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from pathssl.errors import UserError
from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.segmentation.task import SegmentationTask

CONSEP = Published(
    name="CoNSeP",
    classes=("background", "other", "inflammatory", "epithelial", "spindle-shaped"),
    mpp=0.25,
    obtain="https://warwick.ac.uk/fac/cross_fac/tia/data/hovernet (consep_dataset.zip, to be unpacked)",
)
_PARTS = {"train": "Train", "val": "Test"}
# The class of each type: healthy and dysplastic epithelium are one, and so are fibroblasts, muscle and endothelium (HoVer-Net, and eva).
CLASS_OF_TYPE = np.array([0, 1, 2, 3, 3, 4, 4, 4], np.uint8)


def consep_task(*, path: str, counts: Counts | None, scored: str, **settings) -> SegmentationTask:
    """The task of `path`/{Train,Test}/Images/*.png with Labels/*.mat; counts, scored: see published.py, others: `SegmentationTask`."""
    folder = CONSEP.root(path)
    inside = folder / "CoNSeP"  # as the archive has it
    folder = inside if inside.is_dir() else folder
    rows = pd.DataFrame([row for split in _PARTS for row in _rows(folder, split)], columns=["path", "mask", "split"])
    masks = {"background": True, "ignore": None, "instances": False, "read_mask": types}
    return CONSEP.task(rows, folder, of=SegmentationTask, counts=counts, scored=scored, **masks, **settings)


def _rows(folder: Path, split: str) -> list[tuple[str, str, str]]:
    part = _PARTS[split]
    rows = []
    for image in sorted(CONSEP.part(folder, part, "Images").glob("*.png")):
        if not re.fullmatch(rf"{part.lower()}_\d+", image.stem):
            raise CONSEP.astray(image, f"{part} has {part.lower()}_1.png and so on")
        mask = CONSEP.part(folder, part, "Labels", f"{image.stem}.mat")
        rows.append((image.relative_to(folder).as_posix(), mask.relative_to(folder).as_posix(), split))
    return rows


def types(path: Path) -> np.ndarray:
    """(H, W) uint8 class numbers, of the `type_map` in a .mat file; UserError where it is not there or has another type."""
    try:
        found = scipy.io.loadmat(path, variable_names=["type_map"]).get("type_map")
    except Exception as error:  # SciPy says in many ways that a file is damaged, of another version or not there
        raise UserError(f"{path} cannot be read as a MATLAB file ({error}). {CONSEP.how()}") from error
    if found is None or found.ndim != 2:
        raise UserError(f"{path} has no map of types (type_map). {CONSEP.how()}")
    known = range(len(CLASS_OF_TYPE))
    unknown = np.setdiff1d(found, known)
    if len(unknown):
        raise UserError(f"{path} has the type {unknown[0]:g}, and CoNSeP's types are 0 to {known[-1]}. {CONSEP.how()}")
    return CLASS_OF_TYPE[found.astype(np.uint8)]
