"""In what a figure of ours was not made as the published one beside it: another part of the dataset, size of image, feature or protocol."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pathssl import probe_records
from pathssl.report import words
from pathssl.report.study import Run

_PROBES = Path(__file__).parents[2] / "conf" / "probe"
_HOW = ("_target_", "device", "seed")  # of a protocol's block: no part of what it measures
IMAGE_PX = 224


def deviations(run: Run, patches: float, task: str, protocol: str, of: Mapping[str, Any]) -> list[str]:
    """Reasons in words; none where all is as published, as far as the run says.

    of: the published column: `counts` {split: samples} where they are known, `metric`.
    """
    made = next(
        (one.get("made_with") for one in _probes(run) if (one["task"], one["patches_seen"]) == (task, patches)), None
    )
    made = made or {}
    block = made.get("task") or _part(run.config, "task", task)
    features = made.get("features") or run.config.get("features") or {}
    settings = (made.get("protocols") or {}).get(protocol) or _part(run.config, "probe", protocol)
    described = (run.tasks or {}).get(task) or {}
    return [
        *_of_images(described, block, of.get("counts")),
        *_of_features(features, of.get("metric") == "dice"),
        *_of_protocol(task, protocol, settings),
    ]


def _probes(run: Run) -> Iterable[dict]:
    return reversed(probe_records.read_probes(run.folder))


def _part(config: Mapping[str, Any], group: str, name: str) -> dict[str, Any]:
    return (config.get(group) or {}).get(name) or {}


def _of_images(
    described: Mapping[str, Any], block: Mapping[str, Any], counts: Mapping[str, int] | None
) -> Iterator[str]:
    if counts and described:
        ours = {split: of["samples"] for split, of in described["splits"].items() if of["samples"]}
        if described.get("val_taken_from_train") and "test" not in counts:  # the published validation is then tested on
            ours = {"train": ours.get("train", 0) + ours.get("val", 0), "val": ours.get("test", 0)}
        if ours != dict(counts):
            yield f"{_counted(ours)} samples, not {_counted(counts)}"
    elif counts and "counts" in block and block["counts"] is None:
        yield "samples that were not counted"
    px = (described.get("images") or {}).get("image_px") or block.get("image_px")
    if px not in (None, IMAGE_PX):
        yield f"images at {px} px, not {IMAGE_PX}"


def _counted(counts: Mapping[str, int]) -> str:
    return " / ".join(words.count(count) for count in counts.values())


def _of_features(features: Mapping[str, Any], masks: bool) -> Iterator[str]:
    pool, block = features.get("pool", "cls"), features.get("block")
    if pool != "cls" and not masks:
        yield f"features.pool {pool}, not cls"
    if block is not None:
        yield f"features.block {block}, not the last"


def _of_protocol(task: str, protocol: str, settings: Mapping[str, Any]) -> Iterator[str]:
    standard = _standard(protocol)
    if not standard or not settings:
        return
    ours, theirs = _of_task(settings, task), _of_task(standard, task)
    for key in theirs:
        said = ours.get(key, "not said")  # by a run of before there was this setting
        if key not in _HOW and said != theirs[key]:
            yield f"{protocol}.{key} {said}, not {theirs[key]}"


def _of_task(block: Mapping[str, Any], task: str) -> dict[str, Any]:
    own = {key: value for key, value in block.items() if key != "by_task"}
    return own | ((block.get("by_task") or {}).get(task) or {})


@cache
def _standard(protocol: str) -> dict[str, Any]:
    path = _PROBES / f"{protocol}.yaml"
    return yaml.safe_load(path.read_text()) if path.is_file() else {}
