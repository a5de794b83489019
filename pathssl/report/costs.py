"""What a run had cost by each of its checkpoints: in patches seen, device-hours and floating-point operations."""

from collections.abc import Mapping, Sequence

import numpy as np

from pathssl.report import words
from pathssl.report.study import Run, initialised

PATCHES, HOURS, FLOPS = "patches", "hours", "flops"
KINDS = (PATCHES, HOURS, FLOPS)
_UNLIKE = 1.3  # times, between seeds of one arm


def spent(run: Run, kind: str, patches: np.ndarray) -> np.ndarray:
    """(n,) of the run's training by the time when it had seen (n,) `patches`; NaN where nothing says it.

    Hours are those of all its processes together, interpolated between the lines of metrics.jsonl; FLOPs as in pathssl/compute.py.
    """
    if kind == PATCHES or run.untrained:
        return np.asarray(patches, float)
    if kind == FLOPS:
        return run.compute["flops_per_patch"] * np.asarray(patches, float)
    clock = run.series["time_s"]
    at, ticks = (np.concatenate([[0.0], of]) for of in (clock.patches, clock.values))
    time_s = np.interp(patches, at, ticks, right=np.nan)
    return run.compute["processes"] * time_s / 3600


def why_unknown(runs: Sequence[Run], kind: str) -> str | None:
    """The reason in words why a kind of cost cannot be had of all these runs; None where it can."""
    if kind == PATCHES:
        return None
    lacking = [run for run in runs if not (run.compute or {}).get("flops_per_patch")]
    if lacking:
        what = "how many processes there were" if kind == HOURS else "what a patch costs"
        return f"{_some(lacking)} has no compute.json, which says {what}: it was made before there was one"
    if kind == FLOPS:
        return None
    lacking = [run for run in runs if "time_s" not in run.series]
    if lacking:
        return f"{_some(lacking)} has no time_s in its metrics.jsonl"
    lacking = [run for run in runs if (np.diff(run.series["time_s"].values) < 0).any()]
    return f"the clock (time_s) of {_some(lacking)} goes back" if lacking else None


def why_no_budget(runs: Sequence[Run], kind: str, names: Mapping[str, str]) -> str | None:
    """The reason why arms cannot be compared at an equal cost of this kind, though it is known; None where they can.

    Runs of one arm do equal work: where their hours are unlike, something else is in them.
    """
    if kind != HOURS:
        return None
    for arm in dict.fromkeys(run.arm for run in runs):
        clocks = [run.series["time_s"] for run in runs if run.arm == arm and "time_s" in run.series]
        each = [clock.values[-1] / clock.patches[-1] for clock in clocks if len(clock.values) and clock.patches[-1] > 0]
        if each and max(each) > _UNLIKE * min(each):
            return (
                f"runs of {names[arm]}, which do equal work, took times up to {max(each) / min(each):.1f} to 1: how busy the machine was, "
                "or which one it was, is in the hours"
            )
    return None


def _some(runs: Sequence[Run]) -> str:
    more = f" (and {words.plural(len(runs) - 1, 'other run')})" if len(runs) > 1 else ""
    return f"{runs[0].arm}, seed {runs[0].seed}{more}"


def remarks(runs: Sequence[Run], kind: str) -> list[str]:
    """What to know before a kind of cost is believed, in sentences."""
    of_kind = {PATCHES: [], HOURS: _of_hours(runs), FLOPS: [_OF_FLOPS]}[kind]
    return of_kind + [_BEFORE] * (kind != PATCHES and any(initialised(run.config) for run in runs))


_OF_FLOPS = (
    "FLOPs are of the encoders alone (the student forward and backward, the teacher forward), from the models' shapes. "
    "Heads, losses and the optimiser come on top: of small models with many prototypes they are not small."
)
_BEFORE = "What it cost to train given weights before these runs is counted in none of them."


def _of_hours(runs: Sequence[Run]) -> list[str]:
    device = "GPU" if on_gpus(runs) else "process, on CPU cores"
    said = [
        f"Hours are of training: its time without probes, times its processes (a device is a {device}). Of a run that went on after a stop "
        "they count what led to its checkpoints, and not what was lost."
    ]
    devices = sorted({device for run in runs if (device := _device(run))})
    hosts = sorted({str(run.status["host"]) for run in runs if run.status and run.status.get("host")})
    if len(devices) > 1:
        said.append(f"The runs had different devices ({', '.join(devices)}): their hours are no common measure.")
    elif len(hosts) > 1:
        said.append(
            f"The runs were on different machines ({', '.join(hosts)}): how fast and how busy these were is in the hours."
        )
    return said


def on_gpus(runs: Sequence[Run]) -> bool:
    """Whether all of them trained on GPUs, as far as is known."""
    return all(_gpus(run) for run in runs)


def _gpus(run: Run) -> list[str]:
    of_cpus = (run.config.get("train") or {}).get("device") == "cpu"
    return [] if of_cpus else (run.environment or {}).get("gpus") or []


def _device(run: Run) -> str | None:
    return next(iter(_gpus(run)), None) or (run.environment or {}).get("cpu")


def unit(runs: Sequence[Run], kind: str) -> str:
    """As in "0.5 device-hours"."""
    return {PATCHES: "patches", HOURS: "GPU-hours" if on_gpus(runs) else "device-hours", FLOPS: "FLOPs"}[kind]


def written(cost: float, kind: str) -> str:
    """Without its unit."""
    if kind == FLOPS:
        return words.powered(cost)
    return words.count(cost) if kind == PATCHES else words.quantity(cost)
