"""MHIST: hyperplastic polyps and sessile serrated adenomas, by the majority of seven pathologists (Wei et al. 2021, arXiv 2101.12355)."""

from pathlib import Path

import pandas as pd

from pathssl.errors import UserError
from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.folder import read_table
from pathssl.probes.task import Task

MHIST = Published(
    name="MHIST",
    classes=("SSA", "HP"),
    mpp=2.0,  # scanned at 40x, shown at 5x: by eva's page on it
    obtain="https://bmirds.github.io/MHIST (a form; then images.zip, to be unpacked into images, and annotations.csv beside it)",
)
_NAME, _LABEL, _SPLIT = "Image Name", "Majority Vote Label", "Partition"
_VOTES = "Number of Annotators who Selected SSA (Out of 7)"
_MAJORITY = 4


def mhist_task(*, path: str, counts: Counts | None, scored: str, **settings) -> Task:
    """The task of `path`/annotations.csv and `path`/images/*.png; counts, scored: see published.py, the rest: see `Task`.

    Nothing tells which images are of one patient, so there are no groups. The published test part is what is scored. What is held against
    one another are labels, votes, names and counts: that two rows of one class have swapped their parts, or two files their names, is not
    found.
    """
    folder = MHIST.root(path)
    annotations, images = MHIST.part(folder, "annotations.csv"), MHIST.part(folder, "images")
    table = read_table(annotations, (_NAME, _LABEL, _VOTES, _SPLIT), kind=MHIST.name)
    _check_votes(table, annotations)
    _check_listed(table[_NAME], images)
    rows = pd.DataFrame({"path": "images/" + table[_NAME], "label": table[_LABEL], "split": table[_SPLIT]})
    return MHIST.task(rows, folder, counts=counts, scored=scored, part="test", **settings)


def _check_votes(table: pd.DataFrame, annotations: Path) -> None:
    """A label is the majority of the votes, which stand beside it."""
    no_number = table[~table[_VOTES].isin([str(votes) for votes in range(8)])]
    if len(no_number):
        first = no_number.iloc[0]
        raise UserError(
            f"{annotations}: {first[_NAME]} has {first[_VOTES]!r} in '{_VOTES}', which is a number from 0 to 7."
        )
    majority = (table[_VOTES].astype(int) >= _MAJORITY).map({True: "SSA", False: "HP"})
    wrong = table[table[_LABEL] != majority]
    if len(wrong):
        first, more = wrong.iloc[0], f", and {len(wrong) - 1} more labels are not theirs" if len(wrong) > 1 else ""
        raise UserError(
            f"{annotations}: {first[_NAME]} is labelled {first[_LABEL]!r}, but {first[_VOTES]} of 7 annotators selected SSA, which makes "
            f"it {majority[first.name]}{more}. {MHIST.how()}"
        )


def _check_listed(names: pd.Series, images: Path) -> None:
    astray = sorted({path.name for path in images.glob("*.png")} - set(names))
    if astray:
        more = f", nor do {len(astray) - 1} more" if len(astray) > 1 else ""
        raise MHIST.astray(images / astray[0], f"annotations.csv does not list it{more}")
