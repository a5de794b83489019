"""`python -m pathssl status | retry | plan | sweep`: what is asked of many runs."""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pathssl.errors import UserError

_BETWEEN_LOOKS_S = 5.0
_CLEAR = "\x1b[2J\x1b[H"


def add_launch_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    """add(name, help, example, run) gives a verb's parser."""
    _add_status(add)
    _add_retry(add)
    _add_plan(add)
    _add_sweep(add)


def _add_status(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "a line per run: state, step, ETA, patches/s, last probe, requeues, error"
    parser = add("status", help_, "status outputs/demo --watch", _status)
    parser.add_argument("folder", type=Path, help="a run, a study, or the output_dir of studies")
    parser.add_argument("--watch", action="store_true", help="look again every 5 s, until all have ended")


def _status(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.launch.status import all_runs, answer, look_at, watch

    if not options.watch:
        return answer(look_at(all_runs(options.folder)), options.folder)
    looks = []
    try:
        for looks in watch(options.folder):
            said = answer(looks, options.folder)
            if not options.json:
                print(f"{_CLEAR if sys.stdout.isatty() else ''}{said['text']}\n", flush=True)
            if not all(row["ended"] for row in said["runs"]):
                time.sleep(_BETWEEN_LOOKS_S)
    except KeyboardInterrupt:
        pass
    return answer(looks, options.folder) | ({} if options.json else {"text": "" if looks else "Nothing seen yet."})


def _add_retry(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "start again what failed or was lost, where it ran before; finished runs are never repeated"
    parser = add("retry", help_, "retry outputs/demo --dry-run", _retry)
    parser.add_argument("folder", type=Path, help="a run, a study, or the output_dir of studies")
    parser.add_argument("--dry-run", action="store_true", help="say what would be started, and start nothing")


def _retry(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.launch.retry import retry
    from pathssl.launch.status import all_runs

    with redirect_stdout(sys.stderr):
        return retry(all_runs(options.folder), dry_run=options.dry_run)


def _add_plan(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "what a study will cost before it is started: runs, steps, GPU-hours, wall time, disk, each with its range and source"
    parser = add("plan", help_, "plan experiment=demo teacher=m0.98,m0.99", _plan)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py -m")
    parser.add_argument("-m", "--multirun", action="store_true", help="as for train.py; changes nothing here")
    help_ = "first train 30 steps of each kind of run, where the study would run, and measure them"
    parser.add_argument("--calibrate", action="store_true", help=help_)


def _plan(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.launch.calibrate import calibrate
    from pathssl.launch.grid import check_runs, compose_runs, read_grid
    from pathssl.launch.paths import check_paths
    from pathssl.launch.plan import plan_of, where_of
    from pathssl.launch.plan_table import answer

    grid = read_grid(options.overrides)
    jobs = grid.jobs()
    configs, launchers, scales = zip(*compose_runs(jobs), strict=True)
    check_runs(jobs, configs, options.overrides, grid.own)
    check_paths(jobs, configs, refuse=options.calibrate and "nodes" not in launchers[0])
    where = where_of(launchers[0], configs[0]["train"])
    if options.calibrate:
        with redirect_stdout(sys.stderr):  # where progress goes
            calibrate(jobs, configs, where)
    return answer(plan_of(jobs, configs, where, may_guess=True, scales=scales))


def _add_sweep(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "write a study as a W&B sweep: a grid, or a search that ends poor arms early; its agents start our runs"
    parser = add("sweep", help_, "sweep experiment=demo --method bayes", _sweep)
    help_ = "as for train.py -m; `key=interval(a,b)` and `key=tag(log,interval(a,b))` are ranges to search"
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=help_)
    parser.add_argument("--method", choices=("grid", "random", "bayes"), default="grid", help="default: grid")
    help_ = "a probe's key in metrics.jsonl (default: the study's report.primary, on validation images)"
    parser.add_argument("--metric", metavar="KEY", help=help_)
    help_ = "Hyperband ends poor arms from the N-th probe on; 0: none is ended (default: 3, for a grid 0)"
    parser.add_argument("--stop-after", type=int, metavar="N", help=help_)
    parser.add_argument(
        "--processes", type=int, default=1, metavar="P", help="of one run, started by torchrun (default: 1)"
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="default: sweep.yaml in the study's folder")


def _sweep(options: argparse.Namespace) -> dict[str, Any]:
    for name in ("stop_after", "processes"):
        if (value := getattr(options, name)) is not None and value < (least := int(name == "processes")):
            raise UserError(f"--{name.replace('_', '-')} {value}: give {least} or more.")
    from pathssl.launch.sweep_file import write_sweep

    return write_sweep(
        options.overrides,
        method=options.method,
        metric=options.metric,
        stop_after=options.stop_after,
        processes=options.processes,
        to=options.to,
    )
