"""What a study will cost, before anything is started: each figure with its range, and where it is from."""

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathssl.budget import check_budget
from pathssl.environment import cpu_name
from pathssl.errors import UserError
from pathssl.identity import arm_name, run_folder
from pathssl.launch import earlier
from pathssl.launch.earlier import Earlier, Hardware
from pathssl.launch.local import at_a_time, check_settings, visible_gpus
from pathssl.launch.ranges import NOTHING, Range, total
from pathssl.launch.slurm_options import check_options
from pathssl.launch.status import under_way
from pathssl.schedules import steps_every

_FOR_GPUS = ("paper", "small")  # of conf/scale


@dataclass(frozen=True)
class Where:
    """hardware: of each run. together: how many run at a time; of a cluster, how many at most."""

    hardware: Hardware
    together: int


@dataclass(frozen=True)
class Cost:
    """Of one run, from where it stands. step_s and the rest: a range and its source, None where nothing is known.

    done: there is nothing to do, since it has finished or is under way. beside: another process makes the probes, on one GPU at most, and
    the run does not wait for it.
    """

    name: str
    steps: int
    probes: int
    kept: int
    done: bool
    beside: bool
    goes_on: bool
    step_s: tuple[Range, str] | None
    probe_s: tuple[Range, str] | None
    start_s: tuple[Range, str] | None
    disk: tuple[tuple[int, int], str] | None

    def seconds(self) -> Range | None:
        """None where not even the steps are known."""
        if self.done:
            return NOTHING
        if self.step_s is None and self.steps:
            return None
        steps_s = self.step_s[0].times(self.steps) if self.steps else NOTHING
        probes_s = NOTHING if self.beside else self.probes_s()
        return total([steps_s, probes_s, self.start_s[0] if self.start_s else NOTHING])

    def probes_s(self) -> Range:
        return self.probe_s[0].times(self.probes) if self.probe_s else NOTHING


@dataclass(frozen=True)
class Plan:
    """scales: the options of `scale` that the runs have, each once."""

    costs: list[Cost]
    where: Where
    threads: int
    max_gpu_hours: float | None
    scales: tuple[str, ...] = ()

    @property
    def to_do(self) -> list[Cost]:
        return [cost for cost in self.costs if not cost.done]

    def run_hours(self) -> Range | None:
        """All runs' hours; None where they are not known."""
        seconds = [cost.seconds() for cost in self.costs]
        return None if None in seconds else total(seconds).times(1 / 3600)

    def gpu_hours(self) -> Range | None:
        if not self.where.hardware.gpu:
            return NOTHING
        hours = self.run_hours()
        beside = total(cost.probes_s() for cost in self.costs if cost.beside).times(1 / 3600)
        return None if hours is None else hours.times(self.where.hardware.processes) + beside

    def wall_hours(self) -> Range | None:
        """From the first start to the last end, each run begun as soon as there is room."""
        seconds = [cost.seconds() for cost in self.to_do]
        if None in seconds:
            return None
        ends = [
            _last_end([getattr(s, end) for s in seconds], self.where.together) / 3600 for end in ("low", "mid", "high")
        ]
        return Range(*ends)

    def beyond_budget(self) -> str | None:
        """A sentence where the plan asks for more than budget.max_gpu_hours."""
        hours = self.gpu_hours()
        if self.max_gpu_hours is None or hours is None or hours.mid <= self.max_gpu_hours:
            return None
        return (
            f"This takes about {hours.mid:,.3g} GPU-hours ({hours.low:,.3g} to {hours.high:,.3g}), and budget.max_gpu_hours="
            f"{self.max_gpu_hours:g}: name fewer arms or seeds, a smaller train.patches, or a larger budget."
        )

    def not_counted(self, *, beside: bool) -> list[str]:
        """What the hours lack, since it is not known of some run. beside: with the probes that a run does not wait for."""
        probes = any(cost.probes and cost.probe_s is None and (beside or not cost.beside) for cost in self.to_do)
        return ["probes"] * probes + ["starting and saving"] * any(cost.start_s is None for cost in self.to_do)

    def for_gpus(self) -> str | None:
        """A sentence where runs of a scale for GPUs are to have none."""
        large = [f"scale={scale}" for scale in self.scales if scale in _FOR_GPUS]
        if not large or not self.to_do or self.where.hardware.gpu or self.where.hardware.name is None:
            return None
        return f"{' and '.join(large)} is meant for GPUs, and these runs would have none: scale=tiny is for CPUs."

    def refuse_beyond_budget(self) -> None:
        if (sentence := self.beyond_budget()) is not None:
            raise UserError(f"{sentence} Nothing was started.")


def plan_of(
    jobs: Sequence[Sequence[str]],
    configs: Sequence[Mapping[str, Any]],
    where: Where,
    *,
    may_guess: bool,
    scales: Iterable[str] = (),
) -> Plan:
    """The plan of runs with these overrides and resolved configs. may_guess: which takes the seconds that importing torch takes.

    scales: their options of `scale`, where they are known.
    """
    first = configs[0]
    most = first["budget"]["max_gpu_hours"]
    check_budget(most)
    runs = earlier.on(where.hardware, earlier.earlier_runs(Path(first["output_dir"])))
    guess = may_guess or (most is not None and where.hardware.gpu)
    known: dict[str, tuple] = {}  # runs that differ only in a seed or a momentum cost the same
    costs = []
    folders = [run_folder(config, arm_name(job)) for job, config in zip(jobs, configs, strict=True)]
    alone = under_way(folders)
    for folder, config in zip(folders, configs, strict=True):
        key = repr(
            [
                config[part]
                for part in (
                    "model",
                    "objective",
                    "augmentation",
                    "task",
                    "probe",
                    "features",
                    "robustness",
                    "batch",
                    "data",
                    "region",
                )
            ]
        )
        key += repr([config[part] for part in ("parallel", "loader", "optim", "unsupervised", "resolution", "train")])
        if key not in known:
            known[key] = _unit_costs(config, where.hardware, runs, guess)
        costs.append(_cost(folder, config, known[key], done=folder in alone))
    return Plan(costs, where, first["train"]["threads"], most, tuple(sorted({*scales})))


def _unit_costs(config: Mapping[str, Any], hardware: Hardware, runs: Sequence[Earlier], may_guess: bool) -> tuple:
    step, disk = earlier.seconds_a_step(config, runs), earlier.bytes_on_disk(config, runs)
    if may_guess and (step is None or disk is None):
        from pathssl.launch import guess

        step, disk = step or guess.seconds_a_step(config, hardware), disk or guess.bytes_on_disk(config)
    return step, earlier.seconds_a_probe(config, runs), earlier.seconds_a_start(config, runs), disk


def _cost(folder: Path, config: Mapping[str, Any], units: tuple, *, done: bool) -> Cost:
    for key, least in (("train.patches", 0), ("batch.size", 1)):
        block, name = key.split(".")
        if type(value := config[block][name]) is not int or value < least:
            raise UserError(f"{key}={value} must be a whole number, at least {least}.")
    steps = config["train"]["patches"] // config["batch"]["size"]
    saved = max((int(path.name.removeprefix("step_")) for path in folder.glob("checkpoints/step_*")), default=-1)
    at = sorted(steps_every(config["train"]["checkpoint_every"], steps))
    kept = {*at[:: config["checkpoint"]["keep_every"]], steps}
    return Cost(
        name=f"{folder.parent.name}/{folder.name}",
        steps=0 if done else steps - max(0, saved),
        probes=0 if done else sum(step > saved for step in at),
        kept=len(kept),
        done=done,
        beside=config["probe"]["where"] == "job",
        goes_on=saved > 0 and not done,
        **dict(zip(("step_s", "probe_s", "start_s", "disk"), units, strict=True)),
    )


def _last_end(seconds: Sequence[float], lanes: int) -> float:
    free = [0.0] * lanes
    for length in seconds:
        free[free.index(min(free))] += length
    return max(free)


def where_of(launcher: Mapping[str, Any], train: Mapping[str, Any]) -> Where:
    """Where hydra.launcher's settings send runs: those of a cluster have submitit's names."""
    if "nodes" not in launcher:
        return local(launcher, train)
    check_options(launcher)
    gpu = bool(launcher["gpus_per_node"]) and train["device"] != "cpu"
    return Where(Hardware(None, gpu, launcher["nodes"] * launcher["tasks_per_node"]), launcher["array_parallelism"])


def local(launcher: Mapping[str, Any], train: Mapping[str, Any]) -> Where:
    """The queue on this machine, with the settings of hydra.launcher."""
    gpus = [] if train["device"] == "cpu" else visible_gpus()
    processes = launcher["processes"]
    check_settings(launcher["parallel"], processes, gpus)
    hardware = Hardware(_gpu_name(gpus[0]) if gpus else cpu_name(), bool(gpus), processes)
    return Where(hardware, at_a_time(launcher["parallel"], processes, len(gpus), train["threads"]))


def _gpu_name(gpu: str) -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", f"--id={gpu}", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False).stdout.strip() or None
