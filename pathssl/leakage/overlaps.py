"""Where a labelled set and what is trained on overlap: by case, by slide, by copies of pictures; and copies between the set's own splits.

What is found, and what is not:

case    an image whose group, path or `slide` column bears the name of a case that is trained on, or its TCGA barcode, whatever stands
        before, behind and between its words. Names are compared, so two cohorts that both call their cases 1, 2, 3 give a false alarm,
        and a case under another name is not found. A class of the task is no name.
slide   the same with the file names of the slides, without folder and suffix.
patch   an image that shows the same field as one of the patches that are looked at: see `find_copies`. These are the first of the run, a
        sample: a slide has very many places, so that none is found says nothing about an image that was cut from a slide on a grid of
        its own. Cases and slides are the guard against that.
split   two images of the set in different splits that show the same field. Held against the set itself, not against training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pathssl.leakage.copies import find_copies
from pathssl.leakage.fingerprint import Fingerprints
from pathssl.leakage.names import Names, barcode, of_case, of_slide
from pathssl.probes.task import Task


@dataclass(frozen=True)
class Overlap:
    """One case, slide, patch or image, and the images of a task that it meets."""

    task: str
    kind: str  # case | slide | patch | split
    name: str
    images: list[str]

    def __str__(self) -> str:
        more = f" and {len(self.images) - 1} more" if len(self.images) > 1 else ""
        return f"{self.task}: {self.kind} {self.name}: {self.images[0]}{more}"


def of_names(task_name: str, task: Task, cases: Sequence[str], slides: Sequence[str]) -> list[Overlap]:
    """The cases and slides (paths) that are trained on and that the images of the task name."""
    barcodes = [
        code for slide in slides if (code := barcode(Path(slide).stem))
    ]  # whatever a manifest calls their cases
    names = {
        "case": Names(
            [*((of_case(case), case) for case in cases), *zip(barcodes, barcodes, strict=True)], classes=task.classes
        ),
        "slide": Names(((of_slide(slide), slide) for slide in slides), classes=task.classes),
    }
    found: dict[tuple[str, str], list[str]] = {}
    for image, group, slide in zip(task.ids_N, task.groups_N, task.slides_N, strict=True):
        fields = [field for field in (group if task.grouped else "", slide) if field]
        for kind, known in names.items():
            if (name := known.find(path=image, fields=fields)) is not None:
                found.setdefault((kind, name), []).append(str(image))
    return [Overlap(task_name, kind, name, images) for (kind, name), images in sorted(found.items())]


def of_pictures(
    task_name: str, task: Task, images: Fingerprints, trained: Fingerprints, places: Sequence[str]
) -> list[Overlap]:
    """The pictures that are trained on (`places` says where each is from) of which the task has copies."""
    copies, image_M = find_copies(trained, images), task.rows_of_pictures()
    found: dict[int, dict[str, None]] = {}  # of an image several crops may be copies
    for row, image in zip(copies.rows.tolist(), image_M[copies.columns], strict=True):
        found.setdefault(row, {})[str(task.ids_N[image])] = None
    return [Overlap(task_name, "patch", places[row], list(copied)) for row, copied in found.items()]


def between_splits(task_name: str, task: Task, images: Fingerprints) -> list[Overlap]:
    """The images of one split, and their copies in the others."""
    return [
        Overlap(task_name, "split", f"{task.splits_N[row]} {task.ids_N[row]}", [str(task.ids_N[k]) for k in columns])
        for row, columns in _straddling(task, images)
    ]


def _straddling(task: Task, images: Fingerprints) -> Iterator[tuple[int, np.ndarray]]:
    copies, image_M = find_copies(images), task.rows_of_pictures()
    rows, columns = image_M[copies.rows], image_M[copies.columns]
    apart = task.splits_N[rows] != task.splits_N[columns]
    for row in np.unique(rows[apart]):
        yield int(row), np.unique(columns[apart & (rows == row)])
