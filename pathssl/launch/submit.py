"""Runs sent to SLURM as one job array: each finds its folder made, and the code as it was when it was sent."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError

from pathssl.errors import UserError
from pathssl.files import locked_or_refused, write_atomic
from pathssl.identity import arm_name, config_text, refuse_other_run, run_folder
from pathssl.launch.local import names_of
from pathssl.launch.slurm_options import check_options, executor_of
from pathssl.launch.snapshot import snapshot
from pathssl.launch.status import Look, look_at, summary, under_way
from pathssl.records import read_status, read_submission, write_status, write_submission

_LIMIT_S, _POLL_S = 60, 2.0


@dataclass(frozen=True)
class Sent:
    """A run and its job; `left`: why none was made for it now."""

    run: Path
    job_id: str | None
    left: str | None


def submit(
    jobs: Sequence[Sequence[str]], configs: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> list[Sent]:
    """Sends the runs that are missing: those that are finished, queued or running are left alone.

    options: of conf/hydra/launcher.
    """
    names_of(jobs)
    check_options(options)
    runs = [run_folder(config, arm_name(job)) for job, config in zip(jobs, configs, strict=True)]
    study = runs[0].parents[1]
    study.mkdir(parents=True, exist_ok=True)
    busy = f"Somebody else is sending runs of {study} at this moment: wait a little, and look at `python -m pathssl status {study}`."
    with locked_or_refused(study / ".sending.lock", busy):
        for run, config in zip(runs, configs, strict=True):
            refuse_other_run(run, config)
        left = {run: f"{state} already{_otherwise(run, state, options)}" for run, state in under_way(runs).items()}
        to_send = [i for i, run in enumerate(runs) if run not in left]
        ids = _send(
            [list(jobs[i]) for i in to_send], [configs[i] for i in to_send], [runs[i] for i in to_send], options
        )
    made = dict(zip(to_send, ids, strict=True))
    return [Sent(run, made.get(i), left.get(run)) for i, run in enumerate(runs)]


def _otherwise(run: Path, state: str, options: Mapping[str, Any]) -> str:
    """Says so where a run waits with other settings of the launcher: what was typed now does not change them."""
    submission = read_submission(run)
    if state != "queued" or submission is None:
        return ""
    other = [key for key, value in options.items() if submission["launcher"].get(key) != value and key != "wait"]
    return f" with another {', '.join(other)} (scancel {submission['job_id']} first)" if other else ""


def _send(
    jobs: list[list[str]], configs: list[Mapping[str, Any]], runs: list[Path], options: Mapping[str, Any]
) -> list[str]:
    """The jobs' ids. The array is held until its runs' folders say that they are queued, so that none begins before."""
    if not jobs:
        return []
    study = runs[0].parents[1]
    code = snapshot(study)
    with contextlib.ExitStack() as undo:  # what an error, or Ctrl-C, takes back
        for run, config in zip(runs, configs, strict=True):
            if not (run / "config.yaml").is_file():
                undo.callback(_take_back, run)
                write_atomic(run / "config.yaml", config_text(config))
        executor = executor_of(options, study, code)
        try:
            with executor.batch():
                sent = [executor.submit(os.execv, *_line(code, job)) for job in jobs]
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(
                f"sbatch refused: {error}\nNothing was started. (hydra/launcher=local runs on this machine.)"
            ) from error
        ids = [job.job_id for job in sent]
        undo.callback(_cancel, ids[0].partition("_")[0])
        for run, config, job, id_ in zip(runs, configs, jobs, ids, strict=True):
            before = read_status(run) or {"step": 0, "patches_seen": 0}
            numbers = {name: before[name] for name in ("step", "patches_seen")}
            numbers["total_steps"] = config["train"]["patches"] // config["batch"]["size"]
            write_submission(run, job_id=id_, overrides=job, launcher=options, code=str(code))
            write_status(run, "queued", **numbers, host=None, job_id=id_, error=None, timeouts=0)
        undo.pop_all()
    _release(ids[0].partition("_")[0])
    return ids


def _take_back(run: Path) -> None:
    """Of a folder that was made for a job which then there is not."""
    for name in ("status.json", "submission.json", "config.yaml"):
        (run / name).unlink(missing_ok=True)
    for folder in (run, run.parent):
        with contextlib.suppress(OSError):  # not empty, or not there: others have it, or it was never made
            folder.rmdir()


def _cancel(job: str) -> None:
    subprocess.run(["scancel", job], capture_output=True, timeout=_LIMIT_S, check=False)


def _line(code: Path, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """What os.execv needs: the job's process becomes train.py, of which it has the exit code."""
    return sys.executable, [sys.executable, "-u", str(code / "train.py"), *overrides]


def _release(job: str) -> None:
    try:
        done = subprocess.run(
            ["scontrol", "release", job], capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        why = done.stderr.strip() if done.returncode else None
    except subprocess.TimeoutExpired:
        why = f"no answer within {_LIMIT_S} s"
    if why is not None:
        raise UserError(f"The jobs {job} wait, but could not be released: {why}\nscontrol release {job} does it.")


def told(sent: Sequence[Sent]) -> str:
    """A line a run (arm, folder, job), and what to ask next."""
    study = sent[0].run.parents[1]
    rows = [("arm", "folder", "job")]
    rows += [(s.run.parent.name, str(s.run), s.job_id or f"none: {s.left}") for s in sent]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f"{arm:{widths[0]}}  {folder:{widths[1]}}  {job}" for arm, folder, job in rows]
    made = sum(s.job_id is not None for s in sent)
    lines += ["", f"{made} of {len(sent)} runs submitted." if made else "Nothing to do."]
    lines += [f"  python -m pathssl status {study}", f"  python -m pathssl report {study}"]
    return "\n".join([*lines, f"  SLURM's logs: {study}/.slurm"])


def wait_for(runs: Sequence[Path]) -> list[Look]:
    """How the runs ended; says how far they are whenever that changes."""
    spoken = None
    while True:
        looks = look_at(runs)
        now = summary(looks), sum(look.step for look in looks)
        if now != spoken:
            total = sum(look.total_steps or 0 for look in looks)
            print(f"{time.strftime('%H:%M:%S')}  {now[0]} step {now[1]:,} of {total:,}", flush=True)
            spoken = now
        if all(look.state in ("finished", "failed", "lost") for look in looks):
            return looks
        time.sleep(_POLL_S)
