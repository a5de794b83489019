"""Runs sent to SLURM as one job array: each finds its folder made, and the code as it was when it was sent."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.identity import arm_name, config_text, refuse_other_run, run_folder
from pathssl.launch.local import names_of
from pathssl.launch.snapshot import snapshot
from pathssl.launch.status import Look, look_at, summary
from pathssl.records import read_status, write_status, write_submission

_LIMIT_S, _POLL_S = 60, 2.0
_BUSY = ("finished", "running", "starting", "queued")
_NAMES = {  # of conf/hydra/launcher -> submitit's for sbatch
    "tasks_per_node": "ntasks_per_node",
    "timeout_min": "time",
}
_AS_THEY_ARE = ("partition", "qos", "account", "constraint", "nodes", "gpus_per_node", "cpus_per_task", "mem_gb")
_AS_THEY_ARE += ("signal_delay_s", "array_parallelism", "mail_user", "mail_type")


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
    for run, config in zip(runs, configs, strict=True):
        refuse_other_run(run, config)
    left = _left_alone(runs)
    to_send = [i for i, run in enumerate(runs) if run not in left]
    ids = _send([list(jobs[i]) for i in to_send], [configs[i] for i in to_send], [runs[i] for i in to_send], options)
    made = dict(zip(to_send, ids, strict=True))
    return [Sent(run, made.get(i), left.get(run)) for i, run in enumerate(runs)]


def check_options(options: Mapping[str, Any]) -> None:
    """UserError for settings of hydra.launcher that cannot be."""
    least = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 0, "cpus_per_task": 1, "timeout_min": 1}
    least |= {"signal_delay_s": 1, "max_num_timeout": 0, "array_parallelism": 1}
    for key, smallest in least.items():
        if type(options[key]) is not int or options[key] < smallest:
            raise UserError(f"hydra.launcher.{key}={options[key]} must be a whole number, at least {smallest}.")
    if type(options["wait"]) is not bool:
        raise UserError(f"hydra.launcher.wait={options['wait']} must be true or false.")
    memory = options["mem_gb"]
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int | float) or memory <= 0):
        raise UserError(f"hydra.launcher.mem_gb={memory} must be a number of GB, or null for the cluster's default.")


def _left_alone(runs: Sequence[Path]) -> dict[Path, str]:
    """Runs for which there is nothing to do, and what they are doing."""
    begun = [run for run in runs if read_status(run) is not None]
    return {look.run: look.state for look in look_at(begun) if look.state in _BUSY}


def _send(
    jobs: list[list[str]], configs: list[Mapping[str, Any]], runs: list[Path], options: Mapping[str, Any]
) -> list[str]:
    """The jobs' ids. The array is held until its runs' folders say that they are queued, so that none begins before."""
    if not jobs:
        return []
    study = runs[0].parents[1]
    code = snapshot(study)
    for run, config in zip(runs, configs, strict=True):
        if not (run / "config.yaml").is_file():
            write_atomic(run / "config.yaml", config_text(config))
    executor = executor_of(options, study, code)
    try:
        with executor.batch():
            sent = [executor.submit(os.execv, *_line(code, job)) for job in jobs]
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"sbatch refused: {error}\nNothing was started.") from error
    ids = [job.job_id for job in sent]
    for run, config, job, id_ in zip(runs, configs, jobs, ids, strict=True):
        before = read_status(run) or {"step": 0, "patches_seen": 0}
        numbers = {name: before[name] for name in ("step", "patches_seen")}
        numbers["total_steps"] = config["train"]["patches"] // config["batch"]["size"]
        write_status(run, "queued", **numbers, host=None, job_id=id_, error=None, timeouts=0)
        write_submission(run, job_id=id_, overrides=job, launcher=options, code=str(code))
    _release(ids[0].partition("_")[0])
    return ids


def _line(code: Path, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """What os.execv needs: the job's process becomes train.py, of which it has the exit code."""
    return sys.executable, [sys.executable, "-u", str(code / "train.py"), *overrides]


def executor_of(options: Mapping[str, Any], study: Path, code: Path) -> SlurmExecutor:
    """submitit's, with the options of conf/hydra/launcher."""
    executor = SlurmExecutor(study.absolute() / ".slurm", max_num_timeout=options["max_num_timeout"])
    given = {name: options[name] for name in _AS_THEY_ARE} | {_NAMES[name]: options[name] for name in _NAMES}
    given = {name: value for name, value in given.items() if value is not None}
    if not given["gpus_per_node"]:
        del given["gpus_per_node"]
    if "mem_gb" in given:
        given["mem"] = f"{round(given.pop('mem_gb') * 1024)}M"
    path = shlex.quote(str(code))
    executor.parameters = given | {
        "job_name": options["name"] or study.name,
        "stderr_to_stdout": True,
        "wckey": None,
        # srun has not taken over --cpus-per-task by itself since Slurm 22.05. Processes that stop do so one after the other, and none is
        # to be killed before it has; where one died, the others could wait for ever.
        "srun_args": [f"--cpus-per-task={options['cpus_per_task']}", "--kill-on-bad-exit=0", "--wait=300"],
        "setup": [
            *options["setup"],
            f"export PYTHONPATH={path}${{PYTHONPATH:+:$PYTHONPATH}}",
            f"export PATHSSL_WARNED_S={options['signal_delay_s']} PATHSSL_MAX_TIMEOUTS={options['max_num_timeout']}",
            "trap : USR2 TERM # the run hears them; this script waits for it",
        ],
        "teardown": ["code=$?", f"source {path}/slurm/requeue.sh"],
        "additional_parameters": {"requeue": True, "hold": True, **options["sbatch"]},
    }
    return executor


def _release(job: str) -> None:
    done = subprocess.run(["scontrol", "release", job], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        raise UserError(
            f"The jobs {job} wait, but could not be released: {done.stderr.strip()}\nscontrol release {job} does it."
        )


def told(sent: Sequence[Sent]) -> str:
    """A line a run (arm, folder, job), and what to ask next."""
    study = sent[0].run.parents[1]
    rows = [("arm", "folder", "job")]
    rows += [(s.run.parent.name, str(s.run), s.job_id or f"none: {s.left} already") for s in sent]
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
