"""What runs under output_dir took: seconds a step, a probe, a start, and bytes on disk."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pathssl.identity import flatten
from pathssl.launch.ranges import Range
from pathssl.probe_records import read_probes
from pathssl.records import find_runs, read_config, read_json, read_metrics, read_status

CALIBRATION = "calibration"  # the folder in output_dir that holds runs made only to be measured
SIZES = "checkpoint_bytes.json"  # in such a run's folder, in place of its checkpoints
_NEWEST, _ENOUGH = 300, 20  # runs that are looked at, and that are measured by
# What seconds a step depend on; of a step's numbers only whole ones, since weights, temperatures and probabilities cost nothing.
_STEP = (
    "model",
    "objective",
    "augmentation",
    "resolution",
    "magnification",
    "patch_filter",
    "region",
    "loader",
    "parallel",
    "batch.size",
)
_STEP += ("optim.algorithm", "train.precision", "train.threads", "train.deterministic")
_PROBE = (
    "model",
    "resolution",
    "task",
    "probe",
    "features",
    "robustness",
    "unsupervised",
    "train.probe_batch_size",
    "train.precision",
    "train.threads",
)
_DISK = ("model", "objective", "optim.algorithm")


@dataclass(frozen=True)
class Hardware:
    """Of one run: `name` of its GPUs or, without any, of its CPU; None where nobody knows yet, as on a cluster."""

    name: str | None
    gpu: bool
    processes: int


@dataclass(frozen=True)
class Earlier:
    run: Path
    config: Mapping[str, Any]
    hardware: Hardware
    on_cluster: bool


def earlier_runs(output_dir: Path) -> list[Earlier]:
    """The newest runs of all studies, the newest first."""
    studies = [folder for root in (output_dir, output_dir / CALIBRATION) if root.is_dir() for folder in root.iterdir()]
    runs = [run for study in studies if study.is_dir() for run in find_runs(study)]
    metrics = {run: run / "metrics.jsonl" for run in runs if (run / "metrics.jsonl").is_file()}
    newest = sorted(metrics, key=lambda run: -metrics[run].stat().st_mtime)[:_NEWEST]
    return [found for run in newest if (found := _earlier(run)) is not None]


def _earlier(run: Path) -> Earlier | None:
    environment = read_json(run / "environment.json")
    if environment is None:
        return None
    config = read_config(run)
    gpu = bool(environment["gpus"]) and config["train"]["device"] != "cpu"
    name = environment["gpus"][0] if gpu else environment["cpu"]
    hardware = Hardware(name, gpu, environment.get("processes", 1))
    return Earlier(run, config, hardware, environment.get("slurm_job_id") is not None)


def on(hardware: Hardware, runs: Sequence[Earlier]) -> list[Earlier]:
    """Those that ran on such hardware; where its name is not known, on what the newest of them had in the cluster."""
    fit = [r for r in runs if (r.hardware.gpu, r.hardware.processes) == (hardware.gpu, hardware.processes)]
    if hardware.name is None:
        fit = [r for r in fit if r.on_cluster]
        hardware = fit[0].hardware if fit else hardware
    return [r for r in fit if r.hardware.name == hardware.name]


def step_key(config: Mapping[str, Any]) -> dict[str, Any]:
    return _key(config, _STEP)


def alike(config: Mapping[str, Any], runs: Sequence[Earlier], keys: Sequence[str]) -> list[Earlier]:
    """Those that agree in `keys`; of these, where there are any, those with the same slides."""
    wanted, data = _key(config, keys), _key(config, ("data",))
    fit = [r for r in runs if _key(r.config, keys) == wanted]
    return ([r for r in fit if _key(r.config, ("data",)) == data] or fit)[:_ENOUGH]


def _key(config: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    flat = {key: value for key, value in flatten(config).items() if any(f"{key}.".startswith(f"{k}.") for k in keys)}
    return {key: value for key, value in flat.items() if not _of_no_cost(value)}


def _of_no_cost(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, list) and any(isinstance(item, float) for item in value))


# ---- what they took


def seconds_a_step(config: Mapping[str, Any], runs: Sequence[Earlier]) -> tuple[Range, str] | None:
    """Over the log lines of runs like `config`: their mean, the 10 % and the 90 % of them; and where that is from."""
    windows = {r.run: _windows(r) for r in alike(config, runs, _STEP)}
    windows = {run: found for run, found in windows.items() if found}
    if not windows:
        return None
    steps, seconds = np.array([window for found in windows.values() for window in found]).T
    low, high = map(float, np.percentile(seconds / steps, (10, 90)))
    mean = float(seconds.sum() / steps.sum())
    return Range(min(low, mean), mean, max(high, mean)), _source(list(windows), runs)


def _windows(earlier: Earlier) -> list[tuple[float, float]]:
    """Steps and seconds of each log line but the first, in which workers and caches start."""
    rows, size = read_metrics(earlier.run), earlier.config["batch"]["size"]
    speeds = [(row["step"] - before["step"], row.get("train/patches_per_s")) for before, row in pairwise(rows)]
    found = [(steps, steps * size / speed) for steps, speed in speeds if speed and steps > 0]
    return found[1:] or found


def seconds_a_probe(config: Mapping[str, Any], runs: Sequence[Earlier]) -> tuple[Range, str] | None:
    """The same of the probes of a checkpoint; the first of a run, which has nulls to probe too, counts as one of them."""
    fit = alike(config, runs, _PROBE)
    return _spread({r.run: _probe_times(r) for r in fit}, runs)


def _probe_times(earlier: Earlier) -> list[float]:
    """Of each checkpoint; where another process probes, that writes them."""
    late = earlier.config["probe"]["where"] == "job"
    rows = read_probes(earlier.run) if late else read_metrics(earlier.run)
    return [row["probe_time_s"] for row in rows if row.get("probe_time_s")]


def seconds_a_start(config: Mapping[str, Any], runs: Sequence[Earlier]) -> tuple[Range, str] | None:
    """Of whole runs like `config` that were never stopped, what was neither step nor probe: starting, reading the index, saving."""
    return _spread({r.run: found for r in alike(config, runs, _STEP) if (found := _start(r.run))}, runs)


def _start(run: Path) -> list[float]:
    status, rows = read_status(run), read_metrics(run)
    if not rows or status is None or status["state"] != "finished" or status["starts"] != 1:
        return []
    began, ended = (datetime.datetime.fromisoformat(status[key]) for key in ("started", "updated"))
    probes_s = sum(row.get("probe_time_s", 0.0) for row in rows)
    return [max(0.0, (ended - began).total_seconds() - rows[-1]["time_s"] - probes_s)]


def _spread(by_run: Mapping[Path, list[float]], runs: Sequence[Earlier]) -> tuple[Range, str] | None:
    """Mean, least and most."""
    by_run = {run: found for run, found in by_run.items() if found}
    values = [value for found in by_run.values() for value in found]
    return (Range(min(values), sum(values) / len(values), max(values)), _source(list(by_run), runs)) if values else None


def bytes_on_disk(config: Mapping[str, Any], runs: Sequence[Earlier]) -> tuple[tuple[int, int], str] | None:
    """Of a teacher's file and of a training state."""
    for r in alike(config, runs, _DISK):
        folder = r.run / "checkpoints"
        sizes = read_json(r.run / SIZES) or {
            name: max((path.stat().st_size for path in folder.glob(f"step_*/{file}")), default=0)
            for name, file in (("teacher", "teacher.safetensors"), ("state", "state.pt"))
        }
        if sizes["teacher"] and sizes["state"]:
            return (sizes["teacher"], sizes["state"]), _source([r.run], runs)
    return None


def _source(used: Sequence[Path], runs: Sequence[Earlier]) -> str:
    """`measured, 3 runs on AMD EPYC`; of calibrations, which outdo nothing but are made for this, says so."""
    hardware = next(r.hardware for r in runs if r.run == used[0])
    made = sum(CALIBRATION in run.parts for run in used)
    kinds = [f"{len(used) - made} earlier run{'s' if len(used) - made > 1 else ''}"] if len(used) > made else []
    kinds += [f"{made} calibration{'s' if made > 1 else ''}"] if made else []
    return f"measured: {' and '.join(kinds)} on {hardware.processes} x {hardware.name}"
