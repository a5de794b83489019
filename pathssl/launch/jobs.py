"""What SLURM says, of itself and of jobs. Their exit codes are not asked for: a run that failed may stand there as COMPLETED 0:0."""

import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

_LIMIT_S, _PING_LIMIT_S = 30, 15
# Of a job that will do nothing more; what is not among these may still run, or run again.
_OVER = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED")
_OVER += ("REVOKED", "TIMEOUT")
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")


@dataclass(frozen=True)
class Job:
    """`state` and `reason` in SLURM's words."""

    state: str
    reason: str

    @property
    def over(self) -> bool:
        return self.state in _OVER

    @property
    def waiting(self) -> bool:
        return self.state in _WAITING


def answers() -> bool:
    """Whether there is a SLURM here that jobs can be sent to; says so where it is here and does not answer."""
    sbatch = shutil.which("sbatch")
    return sbatch is not None and _pinged(sbatch)


@cache  # each run of a grid asks, and all are to be told the same, once
def _pinged(sbatch: str) -> bool:
    try:
        ping = subprocess.run(["scontrol", "ping"], capture_output=True, timeout=_PING_LIMIT_S, check=False)
        if ping.returncode == 0:
            return True
    except (OSError, subprocess.TimeoutExpired):
        pass
    print(
        f"There is an sbatch here ({sbatch}), but no SLURM answers `scontrol ping`: this machine is taken. "
        "(hydra/launcher=slurm_1gpu insists.)",
        file=sys.stderr,
    )
    return False


def ask(ids: Collection[str]) -> dict[str, Job] | None:
    """What is known of each of these jobs ("12", or "12_3" of an array), without those that nobody remembers; None where SLURM is not
    here or does not answer.
    """
    if not ids:
        return {}
    asked = ",".join(sorted({id_.partition("_")[0] for id_ in ids}))
    said = _said(["squeue", "-h", "-r", "-t", "all", "-j", asked, "-o", "%A|%F|%K|%T|%r"])
    if said is None:
        return None
    jobs = _accounted(asked)
    for line in said.splitlines():  # the queue knows better than the accounts
        name, array, task, state, reason = line.split("|", 4)
        jobs[name if task == "N/A" else f"{array}_{task}"] = Job(state, "" if reason == "None" else reason)
    return {id_: jobs[id_] for id_ in ids if id_ in jobs}


def _accounted(asked: str) -> dict[str, Job]:
    """What the accounts say, which remember jobs for longer; {} where none are kept."""
    said = _said(["sacct", "-n", "-P", "-X", "-j", asked, "-o", "JobID,State"])
    rows = [line.split("|") for line in (said or "").splitlines()]
    return {name: Job(state.split()[0], "") for name, state in rows}  # "CANCELLED by 1000"


def _said(command: list[str]) -> str | None:
    """The command's output; None where it is not there or fails, but "" where it only does not know the job."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    return done.stdout
