"""The files under probes/ of a run folder, which probes write, and the rows that they make with metrics.jsonl."""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pathssl.files import write_atomic
from pathssl.metric_keys import metric_key
from pathssl.records import plain, read_json, read_metrics

_STEP = re.compile(r"step_(\d+)")


def write_probe(
    run: Path,
    *,
    step: int,
    patches_seen: int,
    task: str,
    results: Mapping[str, float],
    predictions: Mapping[str, np.ndarray] | None = None,
    **details: object,
) -> Path:
    """The path of probes/step_<step>/<task>.json, with `results` as {"<protocol>/<split>/<metric>": number}.

    `predictions` go to <task>.npz: arrays with one entry for each image (ids, groups, labels, scores, ...; text as
    NumPy str, not objects). They are written first, so that results on disk have their predictions beside them.
    `details` join the JSON.
    """
    path = Path(run) / "probes" / f"step_{step:08d}" / f"{task}.json"
    if predictions is not None:
        arrays = {key: np.asarray(value) for key, value in predictions.items()}
        objects = [key for key, value in arrays.items() if value.dtype == object]
        if objects:
            raise TypeError(f"predictions {objects} hold Python objects; give arrays of numbers, booleans or str")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomic(path.with_suffix(".npz"), buffer.getvalue())
    content = {"step": step, "patches_seen": patches_seen, "task": task, **details}
    content["results"] = {key: plain(value) for key, value in results.items()}
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def token_picture_of(run: Path) -> Path:
    """Where the picture of the last probed checkpoint's patch tokens is."""
    return Path(run) / "pictures" / "tokens.png"


def read_probes(run: Path, *, last: bool = False) -> list[dict]:
    """What `write_probe` wrote, by step and task; `last`: of the last step alone."""
    steps = sorted(path for path in (Path(run) / "probes").glob("step_*") if _STEP.fullmatch(path.name))
    files = [path for folder in (steps[-1:] if last else steps) for path in folder.glob("*.json")]
    probes = [read_json(path) for path in files if not path.name.startswith(".")]
    return sorted((probe for probe in probes if probe), key=lambda probe: (probe["step"], probe["task"]))


def is_probed(run: Path, step: int) -> bool:
    """Whether a separate process has finished with the probes of a step: it writes the label-free ones last."""
    return (Path(run) / "probes" / f"step_{step:08d}" / "unsupervised.json").is_file()


def has_predictions(run: Path, step: int, task: str) -> bool:
    return (Path(run) / "probes" / f"step_{step:08d}" / f"{task}.npz").is_file()


def read_predictions(run: Path, step: int, task: str) -> dict[str, np.ndarray]:
    """The arrays that `write_probe` was given."""
    with np.load(Path(run) / "probes" / f"step_{step:08d}" / f"{task}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def read_own_runs(run: Path, patches: float, key: str) -> np.ndarray | None:
    """(R,) a metric of each run of a protocol that has several, such as probe/bach/eva/val/balanced_accuracy, after so many patches."""
    _, task, protocol, split, metric = key.split("/")
    steps = [probe["step"] for probe in read_probes(run) if (probe["task"], probe["patches_seen"]) == (task, patches)]
    if not steps or not has_predictions(run, steps[-1], task):
        return None
    return read_predictions(run, steps[-1], task).get(f"{protocol}_runs_{split}_{metric}")


def read_rows(run: Path) -> list[dict]:
    """One row for each step, in order: metrics.jsonl and the results under probes/, which win where both have a key."""
    rows: dict[int, dict] = {}
    for row in read_metrics(run):
        rows.setdefault(row["step"], {}).update(row)
    for probe in read_probes(run):
        row = rows.setdefault(probe["step"], {"step": probe["step"], "patches_seen": probe["patches_seen"]})
        row.update({metric_key(probe["task"], name): value for name, value in probe["results"].items()})
    return [rows[step] for step in sorted(rows)]
