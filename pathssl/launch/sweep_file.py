"""A study as W&B's sweeps know it: the file that `wandb sweep` takes, whose agents start our runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.launch.grid import Grid, Interval, compose_runs, read_grid
from pathssl.launch.local import command
from pathssl.metric_keys import descriptive, higher_is_better

METHODS = ("grid", "random", "bayes")
_ETA = 3  # of every three arms that come to a bracket's end, one goes on (Li et al. 2018, as W&B has it)


def write_sweep(
    overrides: Sequence[str],
    *,
    method: str,
    metric: str | None,
    stop_after: int | None,
    processes: int,
    to: Path | None,
) -> dict[str, Any]:
    """The answer of `python -m pathssl sweep`. stop_after: probes before an arm may be ended early, 0 for never, None for what is usual."""
    grid = read_grid(overrides)
    if not grid.swept:
        raise UserError(
            "Nothing is swept: name several values of a key, as in teacher=m0.99,m0.996, or an experiment that does."
        )
    config = _checked(grid)
    note = ""
    if method == "bayes" and isinstance(seeds := grid.swept.pop("seed", None), list):
        grid.fixed.append(f"seed={seeds[0]}")  # a search that may choose seeds finds the luckiest
        note = f"\nseed={seeds[0]} throughout: a search that may choose seeds finds the luckiest one."
    content = {
        "name": str(config["study"]),
        **_place(config),
        "method": method,
        "metric": _metric(metric or _validated(config)),
        "parameters": {key: _parameter(key, values, method) for key, values in grid.swept.items()},
        **_early(config, 3 if stop_after is None and method != "grid" else stop_after or 0),
        "program": "train.py",
        "command": _command(grid.fixed, processes),
    }
    path = to or Path(config["output_dir"]) / str(config["study"]) / "sweep.yaml"
    write_atomic(path, yaml.safe_dump(content, sort_keys=False, width=120))
    return {"text": f"{path}{note}\n{_next(path)}", "file": str(path), "sweep": content}


def _checked(grid: Grid) -> dict[str, Any]:
    """The config of the grid's first values; each other value has been composed once, so that none fails in an agent's hands."""
    first = {key: values[0] if isinstance(values, list) else f"{values.low!r}" for key, values in grid.swept.items()}
    lines = [[*grid.fixed, *(f"{key}={value}" for key, value in first.items())]]
    for key, values in grid.swept.items():
        others = values[1:] if isinstance(values, list) else [f"{values.high!r}"]
        lines += [[*grid.fixed, *(f"{k}={v}" for k, v in (first | {key: other}).items())] for other in others]
    (config, *_), *_ = compose_runs(lines)
    return config


def _place(config: dict[str, Any]) -> dict[str, str]:
    settings = config["logger"]["wandb"] or {}
    return {key: settings[key] for key in ("entity", "project") if settings.get(key)}


def _metric(key: str) -> dict[str, str]:
    if descriptive(key):
        raise UserError(
            f"{key} describes, and neither more nor less of it is better. Rank arms by a metric of a probe."
        )
    return {"name": key, "goal": "maximize" if higher_is_better(key) else "minimize"}


def _validated(config: dict[str, Any]) -> str:
    """What the study's report compares first, but on validation images: what is chosen on the test split flatters it."""
    primary = (config.get("report") or {}).get("primary") or ""
    kind, task, protocol = [*primary.split("/"), "", ""][:3]
    if not primary or (kind == "probe" and not (task in config["task"] and protocol in config["probe"])):
        not_measured = f" {primary} (report.primary) is not measured by these runs." if primary else ""
        raise UserError(
            f"By which metric are arms to be ranked?{not_measured} Name it: --metric probe/synthetic/linear/val/balanced_accuracy. (An "
            "experiment names one as report.primary.)"
        )
    return primary.replace("/test/", "/val/")


def _parameter(key: str, values: list[str] | Interval, method: str) -> dict[str, Any]:
    if isinstance(values, list):
        return {"values": [_typed(value) for value in values]}
    if method == "grid":
        raise UserError(
            f"{key} is swept over an interval, which has no grid: --method random or bayes, or name its values."
        )
    whole = all(isinstance(end, int) for end in (values.low, values.high))
    kind = "log_uniform_values" if values.log else "int_uniform" if whole else "uniform"
    return {"distribution": kind, "min": values.low, "max": values.high}


def _typed(text: str) -> str | int | float:
    """A number where W&B writes it as it was typed: the value's text names the run's folder, whoever starts it."""
    value = yaml.safe_load(text)
    return value if isinstance(value, int | float) and str(value) == text else text


def _early(config: dict[str, Any], stop_after: int) -> dict[str, Any]:
    if not stop_after:
        return {}
    probes = 1 + max(1, round(1 / config["train"]["checkpoint_every"]))
    if stop_after >= probes:
        raise UserError(
            f"--stop-after {stop_after}: a run is probed {probes} times, the untrained encoder included, so nothing would be stopped. "
            "Name fewer, or a smaller train.checkpoint_every."
        )
    return {"early_terminate": {"type": "hyperband", "min_iter": stop_after, "eta": _ETA}}


def _command(fixed: list[str], processes: int) -> list[str]:
    kept = [o for o in fixed if not o.startswith("hydra/launcher")]
    logger = [] if any(o.startswith("logger=") for o in kept) else ["logger=wandb"]
    overrides = [*kept, *logger, "${args_no_hyphens}"]
    return ["${env}", *command(overrides, processes, python="python", train="train.py")]


def _next(path: Path) -> str:
    return (
        f"Once, which names the sweep:  wandb sweep {path}\n"
        "An agent here:                wandb agent ENTITY/PROJECT/ID\n"
        "Four on SLURM:                sbatch --array=0-3 slurm/wandb_agent.sbatch ENTITY/PROJECT/ID"
    )
