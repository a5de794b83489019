"""Runs that failed or were lost, started again where they ran: on the cluster, or in the queue of this machine."""

import contextlib
import os
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pathssl.errors import UserError
from pathssl.launch.local import run_queue, visible_gpus
from pathssl.launch.status import Look, look_at
from pathssl.records import read_config, read_json, read_submission
from pathssl.report.words import plural

_AGAIN = ("failed", "lost")
SENT, HERE = "sent again", "again on this machine"
NOT_BEGUN = "it does not say how it was started: repeat its command"
BY_HAND = "left to whoever started it (by sbatch or an agent): the same command goes on"


def retry(runs: Sequence[Path], *, dry_run: bool) -> dict[str, Any]:
    """The answer of `python -m pathssl retry`. Runs that have finished, or that are being run, are left alone."""
    looks = look_at(runs)
    again = [(look, _place(look.run)) for look in looks if look.state in _AGAIN]
    sent, here = ([look.run for look, place in again if place == wanted] for wanted in (SENT, HERE))
    lines = {run: starting_line(run) for run in here}
    failed: list[Path] = []
    if not dry_run:
        if sent:
            from pathssl.launch.resubmit import resubmit  # Hydra, which a dry run needs not

            failed += resubmit(sent)
        failed += _run_here(lines)
    text = _said(again, len(looks))
    if stopped := sum(look.state == "preempted" for look in looks):
        text += f"\n{plural(stopped, 'run')} more stopped when asked to: the command that started it goes on."
    text += f"\n{plural(len(failed), 'run')} failed again: {', '.join(map(str, failed))}." if failed else ""
    rows = [
        {
            "run": str(look.run),
            "state": look.state,
            "why": look.why,
            "on": place,
            "overrides": _overrides(look.run, lines),
        }
        for look, place in again
    ]
    return {
        "text": text,
        "again": rows,
        "left_alone": len(looks) - len(again),
        "dry_run": dry_run,
        "broken": bool(failed),
    }


def _place(run: Path) -> str:
    if read_submission(run):
        return SENT
    environment = read_json(run / "environment.json") or {}
    if "folder" not in environment:
        return NOT_BEGUN
    return BY_HAND if environment.get("slurm_job_id") else HERE


def _overrides(run: Path, lines: Mapping[Path, tuple[list[str], str, int]]) -> list[str] | None:
    return lines[run][0] if run in lines else (read_submission(run) or {}).get("overrides")


def _said(again: Sequence[tuple[Look, str]], count: int) -> str:
    if not again:
        return f"Nothing to do: none of {plural(count, 'run')} failed or was lost."
    lines = [f"  {look.run}: {look.state} ({look.why}); {place}" for look, place in again]
    return "\n".join([f"{plural(len(again), 'run')} of {count}:", *lines])


def starting_line(run: Path) -> tuple[list[str], str, int]:
    """The overrides that the run was started with here, in which folder, and in how many processes."""
    environment = read_json(run / "environment.json")
    return shlex.split(environment["command"])[2:], environment["folder"], environment["processes"]


def _run_here(lines: Mapping[Path, tuple[list[str], str, int]]) -> list[Path]:
    """Runs them in the local queue; gives those that failed again."""
    queues = defaultdict(list)
    for run, (overrides, folder, processes) in lines.items():
        train = read_config(run)["train"]
        queues[folder, processes, train["threads"], train["device"] != "cpu", run.absolute().parents[1]].append(
            (overrides, run)
        )
    failed = []
    for (folder, processes, threads, gpus, study), jobs in queues.items():
        with _inside(folder):
            codes = run_queue(
                [overrides for overrides, _ in jobs],
                parallel=None,
                processes=processes,
                gpus=visible_gpus() if gpus else [],
                threads=threads,
                study_folder=str(study),
            )
        failed += [run for (_, run), code in zip(jobs, codes, strict=True) if code]
    return failed


def _inside(folder: str) -> contextlib.AbstractContextManager:
    if not os.path.isdir(folder):
        raise UserError(
            f"{folder}, where the runs were started, is not there any more: repeat their command elsewhere."
        )
    return contextlib.chdir(folder)
