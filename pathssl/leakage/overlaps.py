"""Where a labelled set and what is trained on overlap: by case, by slide, by copies of pictures; and copies between the set's own splits.

What is found, and what is not:

case    an image whose group, path or `slide` column bears the name of a case that is trained on, or its TCGA barcode, whatever stands
        before, behind and between its words. Names are compared, so two cohorts that both call their cases 1, 2, 3 give a false alarm,
        and a case under another name is not found. A class of the task is no name.
slide   the same with the file names of the slides, without folder and suffix.
patch   an image that shows the same field as one of the patches that are looked at: see `find_copies`. These are the first of the run, a
        sample: a slide has very many places, so that none is found says nothing about an image that was cut from a slide on a grid of
        its own. Cases and slides are the guard against that.
weights the weights that a run begins with were trained on the task's images: leakage.trained_on says so, and nothing is compared.
split   two images of the set in different splits that show the same field. Held against the set itself, not against training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from pathssl.leakage.copies import find_copies
from pathssl.leakage.fingerprint import Fingerprints
from pathssl.leakage.names import Names, barcode, of_case, of_slide
from pathssl.probes.task import Task


@dataclass(frozen=True)
class Overlap:
    """One case, slide, patch or image, and the images of a task that it meets (of weights: none are named)."""

    task: str
    kind: str  # case | slide | patch | weights | split
    name: str
    images: list[str]

    def __str__(self) -> str:
        more = f" and {len(self.images) - 1} more" if len(self.images) > 1 else ""
        return f"{self.task}: {self.kind} {self.name}{f': {self.images[0]}' if self.images else ''}{more}"


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


def between_splits(task_name: str, task: Task, pairs_n2: np.ndarray) -> list[Overlap]:
    """The images of one split, and their copies in the others; pairs_n2: as `straddling` tells them."""
    copies: dict[int, list[str]] = {}
    for row, column in pairs_n2.tolist():
        copies.setdefault(row, []).append(str(task.ids_N[column]))
    return [Overlap(task_name, "split", f"{task.splits_N[k]} {task.ids_N[k]}", found) for k, found in copies.items()]


def straddling(task: Task, images: Fingerprints) -> np.ndarray:
    """(n, 2) int64: the numbers of images in different splits that show the same, each pair once, in order."""
    image_M = task.rows_of_pictures()
    split_M = task.splits_N[image_M]
    pairs = [np.empty((0, 2), np.int64)]
    for one, other in combinations(np.unique(split_M), 2):
        copies = find_copies(images.only(split_M == one), images.only(split_M == other))
        pairs.append(np.stack([image_M[copies.rows], image_M[copies.columns]], axis=1))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
