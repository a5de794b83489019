"""A job of SLURM's that probes the checkpoints of a run which is itself a job."""

import os
import sys
from pathlib import Path

from submitit.core.utils import FailedJobError, FailedSubmissionError

from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.launch.jobs import ask
from pathssl.launch.slurm_options import executor_of
from pathssl.records import read_submission

_ID = "probe_job.txt"


def send_probe(run: Path) -> str | None:
    """The id of the job that was sent; None where one still waits for its turn, which will find the new checkpoints too.

    It has the run's partition, account and time, one task, and at most one GPU.
    """
    submission, known = read_submission(run), run / _ID
    if known.is_file():
        (job,) = (ask([known.read_text().strip()]) or {}).values() or (None,)
        if job is not None and job.waiting:
            return None
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
        job = executor.submit(os.execv, sys.executable, line)
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"sbatch refused the job that probes {run}: {error}") from error
    write_atomic(known, f"{job.job_id}\n")
    return job.job_id
