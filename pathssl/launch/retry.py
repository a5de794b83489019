"""Runs that failed or were lost, started again where they ran: on the cluster, or in the queue of this machine."""

import contextlib
import os
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pathssl.errors import UserError
from pathssl.launch.local import run_queue, visible_gpus
from pathssl.launch.status import Look, look_at
from pathssl.records import read_config, read_json, read_submission
from pathssl.report.words import plural

_AGAIN = ("failed", "lost")


def retry(runs: Sequence[Path], *, dry_run: bool) -> dict[str, Any]:
    """The answer of `python -m pathssl retry`. Runs that are there, or that anybody is at, are left alone."""
    looks = look_at(runs)
    again = [look for look in looks if look.state in _AGAIN]
    sent = [look for look in again if read_submission(look.run)]
    here = [look for look in again if not read_submission(look.run)]
    rows = [
        {"run": str(look.run), "state": look.state, "why": look.why, "on": "SLURM" if look in sent else "this machine"}
        for look in again
    ]
    text = _said(looks, rows)
    started = {str(look.run): starting_line(look.run) for look in here}  # before anything is sent: these may be refused
    failed: list[str] = []
    if not dry_run:
        if sent:
            from pathssl.launch.submit import resubmit

            resubmit([look.run for look in sent])
        failed = _run_here(here)
        text += f"\n{plural(len(failed), 'run')} failed again: {', '.join(failed)}." if failed else ""
    rows = [row | {"overrides": started.get(row["run"], (None, None, None))[0]} for row in rows]
    return {
        "text": text,
        "again": rows,
        "left_alone": len(looks) - len(again),
        "dry_run": dry_run,
        "broken": bool(failed),
    }


def _said(looks: Sequence[Look], rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return f"Nothing to do: none of {plural(len(looks), 'run')} failed or was lost."
    lines = [f"{plural(len(rows), 'run')} of {len(looks)}:"]
    return "\n".join(
        [*lines, *(f"  {row['run']}: {row['state']} ({row['why']}); again on {row['on']}" for row in rows)]
    )


def starting_line(run: Path) -> tuple[list[str], str, int]:
    """The overrides that the run was started with here, in which folder, and in how many processes."""
    environment = read_json(run / "environment.json")
    if environment is None or "folder" not in environment:
        raise UserError(
            f"{run} does not say what it was started with. Repeat its command; the run goes on from its last checkpoint."
        )
    return shlex.split(environment["command"])[2:], environment["folder"], environment["processes"]


def _run_here(looks: Sequence[Look]) -> list[str]:
    """Runs them in the local queue; gives those that failed again."""
    queues = defaultdict(list)
    for look in looks:
        overrides, folder, processes = starting_line(look.run)
        config = read_config(look.run)
        gpus = config["train"]["device"] != "cpu"
        key = (folder, processes, config["train"]["threads"], gpus, str(look.run.absolute().parents[1]))
        queues[key].append((overrides, look.run))
    failed = []
    for (folder, processes, threads, gpus, study), jobs in queues.items():
        with _inside(folder):
            codes = run_queue(
                [overrides for overrides, _ in jobs],
                parallel=None,
                processes=processes,
                gpus=visible_gpus() if gpus else [],
                threads=threads,
                study_folder=study,
            )
        failed += [str(run) for (_, run), code in zip(jobs, codes, strict=True) if code]
    return failed


def _inside(folder: str) -> contextlib.AbstractContextManager:
    if not os.path.isdir(folder):
        raise UserError(
            f"{folder}, where the runs were started, is not there any more: repeat their command elsewhere."
        )
    return contextlib.chdir(folder)
