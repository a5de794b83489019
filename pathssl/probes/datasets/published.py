"""What all published datasets have in common: where they are obtained, whether all of one is here, and on which split it is scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pathssl.errors import UserError

SCORED = ("val", "test")


@dataclass(frozen=True)
class Published:
    """A dataset as its authors hand it out.

    name: as they write it. classes: in their published order, which is the order of class numbers. mpp: um per pixel of its images, None
    where it is not published. obtain: where it is to be had, and what to do with it, as the end of a sentence.
    """

    name: str
    classes: tuple[str, ...]
    mpp: float | None
    obtain: str

    def root(self, path: str) -> Path:
        """The dataset's folder; UserError where there is none."""
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise UserError(f"{self.name} is not at {folder}. {self.how()}")
        return folder

    def part(self, folder: Path, *names: str) -> Path:
        """A file or folder of the dataset; UserError where it is not there."""
        path = folder.joinpath(*names)
        if not path.exists():
            raise UserError(f"{self.name} is not whole: {'/'.join(names)} is not in {folder}. {self.how()}")
        return path

    def how(self) -> str:
        """A sentence for those who do not have it."""
        return f"It is to be had from {self.obtain}."

    def check_counts(self, rows: pd.DataFrame, counts: Mapping[str, int] | None, folder: Path) -> None:
        """UserError where `rows` (label, split) are not as many in each split as published; None compares nothing."""
        if counts is None:
            return
        found = rows["split"].value_counts().to_dict()
        wrong = {
            name: (found.get(name, 0), counts.get(name, 0))
            for name in dict.fromkeys([*counts, *found])
            if found.get(name, 0) != counts.get(name, 0)
        }
        if not wrong:
            return
        said = "; ".join(f"{here} of {there} in {name}" for name, (here, there) in wrong.items())
        first = next(iter(wrong))
        of_class = rows.loc[rows["split"] == first, "label"].value_counts().to_dict() if "label" in rows else {}
        classes = (
            f" (of {first}: {', '.join(f'{label} {of_class.get(label, 0)}' for label in self.classes)})"
            if of_class
            else ""
        )
        raise UserError(
            f"{self.name} in {folder} is not as published: {said}{classes}. Unpack it again, or, where yours is meant to differ, give "
            f"counts=null. {self.how()}"
        )


def scored_on(rows: pd.DataFrame, scored: str) -> pd.DataFrame:
    """`rows` of a dataset published in two parts, train and val, where val is what is scored.

    scored=val: settings are chosen and results reported on the same images, as eva and arXiv 2404.15217 do, which flatters. scored=test:
    the published val is test, and validation is taken out of train (see `Task`).
    """
    if scored not in SCORED:
        raise UserError(
            f"scored={scored}: val (as published: chosen and reported on the same images) or test (validation taken from train)."
        )
    return rows.replace({"split": {"val": scored}})
