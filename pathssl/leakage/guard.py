"""The guard: what of the labelled tasks was trained on, and what is done about it."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pathssl.data.patches import PatchReader
from pathssl.errors import UserError
from pathssl.leakage import fingerprint
from pathssl.leakage.fingerprint import Fingerprints, fingerprints
from pathssl.leakage.overlaps import Overlap, between_splits, of_names, of_pictures, straddling
from pathssl.probes.cache import FeatureCache, key_of
from pathssl.probes.task import Task
from pathssl.records import OF_TRAINING
from pathssl.slides.index import SlideIndex

log = logging.getLogger(__name__)
_SHOWN = 10
_PATCHES_AT_A_TIME = 64
_BY_TASK = ("images", "sets")
VERSION = 1  # of what is found: other findings in a leakage.json are looked for anew


@dataclass(frozen=True)
class Findings:
    """What was compared, and the overlaps.

    compared: numbers of cases, slides and pictures that are trained on; by task, "images" how many it has, and "sets" of which set that is.
    """

    compared: dict[str, Any]
    overlaps: list[Overlap]

    @classmethod
    def of_record(cls, record: Mapping[str, Any] | None) -> "Findings":
        """What `record` gave; None is nothing."""
        compared = {"cases": 0, "slides": 0, "pictures": 0, "images": {}, "sets": {}}
        if record is None:
            return cls(compared, [])
        return cls(compared | record["compared"], [Overlap(**one) for one in record["overlaps"]])

    def of(self, tasks: Collection[str]) -> "Findings":
        """What concerns these tasks."""
        known = {key: {k: self.compared[key][k] for k in tasks if k in self.compared[key]} for key in _BY_TASK}
        return Findings(self.compared | known, [one for one in self.overlaps if one.task in tasks])

    def joined(self, later: "Findings") -> "Findings":
        """With what was looked at later, which counts where both have a task."""
        kept = [one for one in self.overlaps if one.task not in later.compared["images"]]
        known = {key: self.compared[key] | later.compared[key] for key in _BY_TASK}
        return Findings(later.compared | known, kept + later.overlaps)

    def of_training(self) -> list[Overlap]:
        """Those that mean that what is tested was trained on."""
        return [one for one in self.overlaps if one.kind in OF_TRAINING]

    def record(self) -> dict[str, Any]:
        """leakage.json: "compared", and "overlaps" as [{task, kind, name, images}]."""
        return {"compared": self.compared, "overlaps": [asdict(one) for one in self.overlaps]}

    def text(self) -> str:
        """A sentence on what was compared, then a line for each of the first overlaps."""
        images = ", ".join(f"{task} ({count} images)" for task, count in self.compared["images"].items())
        counts = ", ".join(f"{self.compared[key]} {key}" for key in ("cases", "slides", "pictures"))
        head = f"{counts} that are trained on, against {images or 'no task'}: "
        if not self.overlaps:
            return f"{head}no overlap."
        lines = [f"\n  {one}" for one in self.overlaps[:_SHOWN]]
        if len(self.overlaps) > _SHOWN:
            lines.append(f"\n  and {len(self.overlaps) - _SHOWN} more")
        return f"{head}{len(self.overlaps)} overlap{'s' if len(self.overlaps) > 1 else ''}.{''.join(lines)}"


def look(
    tasks: Mapping[str, Task],
    *,
    index: SlideIndex | None,
    training_slides: Sequence[int],
    reader: PatchReader | None,
    patches: int,
    batch_size: int,
    cache: FeatureCache | None,
) -> Findings:
    """The overlaps of the tasks with the slides number `training_slides`, and with the first `patches` patches of `reader`.

    With patches=0 no picture is looked at: not those of the tasks either. Without a reader (and index, and slides) nothing is trained on.
    `cache` keeps what follows from the tasks alone. The sets that were compared are for the caller to name.
    """
    cases = sorted({index.case[k] for k in training_slides})
    slides = [index.paths[k] for k in training_slides]
    overlaps = [one for name, task in tasks.items() for one in of_names(name, task, cases, slides)]
    if patches and tasks:
        trained, places = _first_patches(reader, patches if reader else 0)
        overlaps += of_copies(tasks, trained, places, batch_size, cache)
    compared: dict[str, Any] = {
        "cases": len(cases),
        "slides": len(slides),
        "pictures": patches if tasks and reader else 0,
    }
    compared["images"] = {name: len(task) for name, task in tasks.items()}
    return Findings(compared | {"sets": {}}, overlaps)


def known_set(task: Task, patches: int, *more: str) -> str:
    """A key of all of a task that findings follow from, of how many patches were looked at, and of what else they follow from."""
    columns = (task.ids_N, task.groups_N, task.slides_N, task.splits_N)
    return key_of(
        VERSION, patches, task.data_hash(), sorted(task.classes), *(column.tolist() for column in columns), *more
    )


def of_copies(
    tasks: Mapping[str, Task],
    trained: Fingerprints,
    places: Sequence[str],
    batch_size: int,
    cache: FeatureCache | None = None,
) -> list[Overlap]:
    """The copies of pictures in the tasks, and those between their splits."""
    overlaps = []
    for name, task in tasks.items():
        images, pairs = _of_task(task, batch_size, cache)
        overlaps += of_pictures(name, task, images, trained, places) if places else []
        overlaps += between_splits(name, task, pairs)
    return overlaps


def _of_task(task: Task, batch_size: int, cache: FeatureCache | None) -> tuple[Fingerprints, np.ndarray]:
    """The fingerprints of a task's pictures, and its copies between splits: of very many images these take minutes."""
    data = task.data_hash() if cache is not None else None

    def kept(compute: Callable[[], np.ndarray], *of: object) -> np.ndarray:
        return compute() if data is None else cache.get(key_of(*of, data), compute)

    images = Fingerprints.of_packed(
        kept(lambda: fingerprints(task.batches(batch_size)).packed(), "fingerprints", fingerprint.VERSION)
    )
    how = "copies", VERSION, fingerprint.VERSION, task.splits_N.tolist()
    return images, kept(lambda: straddling(task, images), *how)


def _first_patches(reader: PatchReader | None, count: int) -> tuple[Fingerprints, list[str]]:
    """The first patches of a run, and where each lies."""
    places: list[str] = []

    def read() -> Iterator[np.ndarray]:
        for start in range(0, count, _PATCHES_AT_A_TIME):
            patches = reader.read(np.arange(start, min(start + _PATCHES_AT_A_TIME, count)))
            draws = patches.draws
            columns = (draws.slide.tolist(), draws.x0.tolist(), draws.y0.tolist(), draws.mpp.tolist())
            for slide, x0, y0, mpp in zip(*columns, strict=True):
                places.append(f"{reader.sampler.index.paths[slide]} at {x0}, {y0} ({mpp:g} um/px)")
            yield patches.pixels

    made = fingerprints(read())
    if reader is not None:
        reader.close()
    return made, places


def act(findings: Findings, on_overlap: str) -> None:
    """Raises UserError for what was trained on, where `on_overlap` is refuse; else, and for copies between splits, warns."""
    of_training = findings.of_training()
    if of_training and on_overlap == "refuse":
        raise UserError(
            f"What is tested was trained on: {Findings(findings.compared, of_training).text()}\n"
            "Leave these slides out of data.path (or these images out of the labels), or give cases that only share a name other "
            "names. leakage.on_overlap=label goes on all the same and marks the tasks' numbers in the report; ignore does not look."
        )
    if findings.overlaps:
        log.warning("Leakage: %s", findings.text())
