"""What SLURM has allotted to this process: its job, and the job's time."""

import os
import subprocess

_SLACK_S, _LIMIT_S = 60, 30
_WARNED_S, _MAX_TIMEOUTS = 300, 20  # as in slurm/*.sbatch; the launcher's settings come in the environment


def slurm_job() -> str | None:
    """The SLURM job that this process belongs to: "12", or "12_3" in an array."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def time_is_over() -> bool:
    """Whether the job is so near its time limit that it was this of which it was warned, and no preemption."""
    job = slurm_job()
    if job is None:
        return False
    try:
        # Not when it is to end, which SLURM moves when it preempts a job.
        asked = ["squeue", "-h", "-j", job, "-o", "%M %l"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=_LIMIT_S, check=False).stdout
        used_s, limit_s = (seconds(time) for time in said.split())
    except (OSError, subprocess.TimeoutExpired, ValueError):  # no answer, or a job without a limit
        return False
    return limit_s - used_s <= int(os.environ.get("PATHSSL_WARNED_S", _WARNED_S)) + _SLACK_S


def seconds(time: str) -> int:
    """Of what SLURM writes as [days-][hours:]minutes:seconds; ValueError for UNLIMITED and such."""
    days, _, rest = time.rpartition("-")
    total = int(days or 0) * 24
    hours, minutes, secs = [0, *map(int, rest.split(":"))][-3:]
    return ((total + hours) * 60 + minutes) * 60 + secs


def most_timeouts() -> int:
    """Time-outs after which a run is given up."""
    return int(os.environ.get("PATHSSL_MAX_TIMEOUTS", _MAX_TIMEOUTS))
