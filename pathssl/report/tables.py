"""The page's tables apart from the comparisons: runs, throughput, config differences, data."""

from pathlib import PurePath

import numpy as np

from pathssl.report import words
from pathssl.report.study import Run, Study

# settings that differ between runs without making another experiment
_BOOKKEEPING = ("seed", "study", "arm", "report", "logger", "launcher", "hydra", "experiment", "leakage")
_BOOKKEEPING_ENDS = ("workers", "prefetch")


def flatten(config: object, prefix: str = "") -> dict[str, object]:
    """{"teacher.momentum": 0.99, ...}: every leaf of a nested config; lists are leaves."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    flat = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def config_differences(study: Study) -> dict[str, dict[str, str]]:
    """{key: {arm: value}} of the settings that are not the same in all runs, without seeds and other bookkeeping.

    Where the seeds of one arm disagree, all their values stand there.
    """
    flat = {run.folder: flatten(run.config) for run in study.runs}
    keys = sorted({key for config in flat.values() for key in config if not is_bookkeeping(key)})
    differences = {}
    for key in keys:
        values = {arm: [shown(flat[run.folder].get(key, "—")) for run in study.of(arm)] for arm in study.arms}
        if len({value for found in values.values() for value in found}) > 1:
            differences[key] = {arm: " / ".join(dict.fromkeys(found)) for arm, found in values.items()}
    return differences


def is_bookkeeping(key: str) -> bool:
    """Whether a setting makes no other experiment."""
    parts = key.split(".")
    return parts[0] in _BOOKKEEPING or parts[-1].endswith(_BOOKKEEPING_ENDS)


def shown(value: object) -> str:
    """A setting's value, as YAML has it."""
    if isinstance(value, str) and PurePath(value).is_absolute():
        return "(a path)"  # two machines keep the same data in different places
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def run_rows(study: Study) -> list[dict]:
    """A row for each run: where it stands, and the last line of its error."""
    rows = []
    for run in study.runs:
        status = run.status or {}
        error = (status.get("error") or "").strip().splitlines()
        rows.append(
            {
                "arm": run.arm,
                "seed": run.seed,
                "state": run.state,
                "step": status.get("step"),
                "total_steps": status.get("total_steps"),
                "patches_seen": status.get("patches_seen"),
                "updated": (status.get("updated") or "").replace("T", " ").removesuffix("+00:00"),
                "host": status.get("host"),
                "error": error[-1] if error else None,
            }
        )
    return rows


def state_counts(study: Study) -> str:
    """4 runs: 3 finished, 1 failed."""
    states = [run.state for run in study.runs]
    order = ("finished", "running", "queued", "preempted", "failed", "not started")
    parts = [f"{states.count(state)} {state}" for state in order if state in states]
    return f"{words.plural(len(states), 'run')} of {words.plural(len(study.arms), 'arm')}: {', '.join(parts)}"


def throughput(study: Study) -> list[dict]:
    """For each arm, averaged over its runs: patches per second, share of time spent waiting for data, hours per run."""
    rows = []
    for arm in study.arms:
        speed = [
            np.median(run.series["train/patches_per_s"].values) for run in _with(study, arm, "train/patches_per_s")
        ]
        wait = [np.mean(run.series["train/data_wait"].values) for run in _with(study, arm, "train/data_wait")]
        hours = [run.series["time_s"].values[-1] / 3600 for run in _with(study, arm, "time_s")]
        if speed:
            hosts = {str(run.status["host"]) for run in study.of(arm) if run.status and run.status.get("host")}
            rows.append(
                {
                    "arm": arm,
                    "patches_per_s": float(np.mean(speed)),
                    "data_wait": float(np.mean(wait)) if wait else None,
                    "hours": float(np.mean(hours)) if hours else None,
                    "hosts": ", ".join(sorted(hosts)),
                }
            )
    return rows


def _with(study: Study, arm: str, key: str) -> list[Run]:
    return [run for run in study.of(arm) if key in run.series]


def data_rows(study: Study) -> list[dict]:
    """What the runs recorded in data.json, with the arms that have it in common."""
    rows: list[dict] = []
    for run in study.runs:
        if run.data:
            row = next((row for row in rows if row["data"] == run.data), None)
            if row is None:
                rows.append(row := {"data": run.data, "arms": []})
            if run.arm not in row["arms"]:
                row["arms"].append(run.arm)
    return rows
