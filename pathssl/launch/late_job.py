"""A job of SLURM's that probes the checkpoints of a run which is itself a job."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError

from pathssl.errors import UserError
from pathssl.files import locked, write_atomic
from pathssl.launch.jobs import ask
from pathssl.launch.slurm_options import executor_of
from pathssl.probe_process import ENDING
from pathssl.records import read_submission

_ID = "probe_job.txt"


def send_probe(run: Path) -> str | None:
    """The id of the job that was sent; None where one waits for its turn, or works, which will find the new checkpoints too.

    It has the run's partition, account and time, one task, and at most one GPU.
    """
    with locked(run / ".probe_job.lock"):  # of two that a run has started one sends
        if _will_look(run):
            return None
        job_id = _sent(run, read_submission(run))
        write_atomic(run / _ID, f"{job_id}\n")
    return job_id


def _will_look(run: Path) -> bool:
    """Whether the job that was sent last will look for new checkpoints once more."""
    id_, ends = (path.read_text().strip() if path.is_file() else None for path in (run / _ID, run / ENDING))
    if id_ is None or id_ == ends:
        return False
    job = (ask([id_]) or {}).get(id_)
    return job is not None and not job.over and job.state != "COMPLETING"


def _sent(run: Path, submission: Mapping[str, Any]) -> str:
    options = submission["launcher"]
    options |= {
        "nodes": 1,
        "tasks_per_node": 1,
        "gpus_per_node": min(1, options["gpus_per_node"]),
        "array_parallelism": 1,
    }
    executor = executor_of(options, run.absolute().parents[1], Path(submission["code"]))
    executor.parameters["job_name"] += "-probe"
    executor.parameters["additional_parameters"].pop("hold")
    line = [sys.executable, "-u", "-m", "pathssl", "probe", str(run.absolute()), "--late", "--here"]
    try:
        return executor.submit(os.execv, sys.executable, line).job_id
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"sbatch refused the job that probes {run}: {error}") from error
