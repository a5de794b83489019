"""Gleason: patches of prostate tissue microarrays by Gleason pattern (Arvaniti et al. 2018), split by array as they and eva do."""

import re
from pathlib import Path

import pandas as pd

from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.task import Task

GLEASON = Published(
    name="Gleason",
    classes=("benign", "gleason_3", "gleason_4", "gleason_5"),
    mpp=0.23,
    obtain="https://doi.org/10.7910/DVN/OCYCMP (to be unpacked, and cut into patches by create_patches.py of "
    "https://github.com/eiriniar/gleason_CNN)",
)
# Of each split its folder, and its arrays. Test has the labels of the first of two pathologists.
_SPLITS = {
    "train": ("train_validation_patches_750", ("ZT111", "ZT199", "ZT204")),
    "val": ("train_validation_patches_750", ("ZT76",)),
    "test": ("test_patches_750/patho_1", ("ZT80",)),
}
_OF_ARRAY = {array: (split, place) for split, (place, arrays) in _SPLITS.items() for array in arrays}


def gleason_task(*, path: str, counts: Counts | None, **settings) -> Task:
    """The task of `path`/train_validation_patches_750 and `path`/test_patches_750/patho_1; counts: see published.py, the rest: see `Task`.

    Its files are <core>/<core>_patch_12_class_0.jpg with a core as ZT76_39_A_1_1, the group. Class 0 is benign, 1 to 3 are patterns 3 to 5.
    """
    folder = GLEASON.root(path)
    places = [
        GLEASON.part(folder, *place.split("/")) for place in dict.fromkeys(place for place, _ in _SPLITS.values())
    ]
    rows = pd.DataFrame(
        [
            {"path": file.relative_to(folder).as_posix(), **_parse(file, folder)}
            for place in places
            for file in sorted(place.rglob("*.jpg"))
        ],
        columns=["path", "label", "split", "group"],
    )
    return GLEASON.task(rows, folder, counts=counts, **settings)


def _parse(file: Path, folder: Path) -> dict[str, str]:
    """Label, split and core by a file's name, which its folders must repeat."""
    found = re.fullmatch(r"((ZT\d+)_\w+)_patch_\d+_class_([0-3])", file.stem)
    if not found or found[2] not in _OF_ARRAY:
        raise GLEASON.astray(
            file,
            f"names are as ZT76_39_A_1_1_patch_12_class_0.jpg, of the arrays {', '.join(_OF_ARRAY)} and classes 0 to 3",
        )
    split, place = _OF_ARRAY[found[2]]
    if file.parent != folder / place / found[1]:
        raise GLEASON.astray(file, f"by its name its place is {place}/{found[1]}")
    return {"label": GLEASON.classes[int(found[3])], "split": split, "group": found[1]}
