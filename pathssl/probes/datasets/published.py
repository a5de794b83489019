"""What all published datasets have in common: where they are obtained, whether all of one is here, and on which split it is scored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pathssl.errors import UserError
from pathssl.probes.settings import check_path
from pathssl.probes.task import Task

SCORED = ("val", "test")
# Images in each split, or in each class of it.
Counts = Mapping[str, int | Mapping[str, int]]


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
        check_path(path=path)
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

    def files(self, folder: Path, pattern: str) -> list[Path]:
        """What matches in each class's own folder of `folder`, class after class; UserError where one lacks or is of no class."""
        by_class = [sorted(self.part(folder, name).glob(pattern)) for name in self.classes]
        for path in sorted(folder.iterdir()):
            if path.is_dir() and path.name not in self.classes and not path.name.startswith("."):
                raise self.astray(path, f"its classes are {', '.join(self.classes)}")
        return [file for files in by_class for file in files]

    def astray(self, path: Path, belongs: str) -> UserError:
        """The error that says so; `belongs` what would be right there."""
        return UserError(f"{path} does not belong there: {belongs}. {self.how()}")

    def how(self) -> str:
        """A sentence for those who do not have it."""
        return f"It is to be had from {self.obtain}."

    def task(
        self,
        rows: pd.DataFrame,
        folder: Path,
        *,
        counts: Counts | None,
        scored: str | None = None,
        part: str = "val",
        of: Callable[..., Any] = Task,
        **settings,
    ) -> Any:
        """The task `of` these `rows` of files in `folder`, once they are as many as published (see `check_counts`).

        scored, part: see `scored_on`; None leaves the splits as they are. The rest: see the class.
        """
        self.check_counts(rows, counts, folder)
        rows = rows if scored is None else scored_on(rows, scored, part)
        source = f"{self.name} in {folder}"
        return of(rows, folder=folder, source=source, classes=self.classes, mpp=self.mpp, **settings)

    def check_counts(self, rows: pd.DataFrame, counts: Counts | None, folder: Path) -> None:
        """UserError where `rows` (label, split) are not as many in each split as published; None compares nothing."""
        if counts is None:
            return
        _check_form(counts)
        wanted: dict[str, int] = {}
        for name, of in counts.items():
            wanted |= {f"{name}/{label}": n for label, n in of.items()} if isinstance(of, Mapping) else {name: of}
        by_class = rows["split"].isin([name for name, of in counts.items() if isinstance(of, Mapping)])
        parts = rows["split"].mask(by_class, rows["split"] + "/" + rows["label"]) if by_class.any() else rows["split"]
        found = parts.value_counts().to_dict()
        wrong = {
            name: (found.get(name, 0), wanted.get(name, 0))
            for name in dict.fromkeys([*wanted, *found])
            if found.get(name, 0) != wanted.get(name, 0)
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


def _check_form(counts: object) -> None:
    """UserError where `counts` is none."""
    of = [*counts.values()] if isinstance(counts, Mapping) else [None]
    numbers = [n for one in of for n in (one.values() if isinstance(one, Mapping) else [one])]
    if any(type(n) is not int or n < 0 for n in numbers):
        raise UserError(
            f"counts={counts}: give the images of each split, as in counts={{train: 20, test: 10}}, or of each class of it, as in "
            "counts={train: {A: 8, B: 12}, test: 10}; null compares nothing."
        )


def scored_on(rows: pd.DataFrame, scored: str, part: str = "val") -> pd.DataFrame:
    """`rows` of a dataset published in two parts, train and `part`, where `part` is what is scored.

    scored=val: settings are chosen and results reported on the same images, as eva and arXiv 2404.15217 do, which flatters. scored=test:
    `part` is test, and validation is taken out of train (see `Task`).
    """
    if scored not in SCORED:
        raise UserError(
            f"scored={scored}: val (as published: chosen and reported on the same images) or test (validation taken from train)."
        )
    return rows.replace({"split": {part: scored}})
