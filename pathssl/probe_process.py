"""The process that probes beside training: what it has to do, and how a run starts it."""

import os
import subprocess
import sys
from pathlib import Path

from pathssl.allotment import slurm_job
from pathssl.records import is_probed, read_config, read_submission
from pathssl.schedules import steps_every


def unprobed(run: Path) -> list[int]:
    """The steps of checkpoints that are there and not probed. States saved between them are none: the loop does not probe those either."""
    config = read_config(run)
    scheduled = steps_every(config["train"]["checkpoint_every"], config["derived"]["total_steps"])
    there = {int(path.name.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*")}
    return sorted(step for step in there & scheduled if not is_probed(run, step))


def start_probes(run: Path, *, last: bool = False) -> None:
    """Begins to probe the run's new checkpoints, in a process that goes on when this one dies, with little claim to the processor.

    Where the run was sent to SLURM, that process sends another job, and ends. last: this returns when it has, since a job that ends takes
    its processes with it.
    """
    sends = slurm_job() is not None and read_submission(run) is not None
    root = str(Path(__file__).parents[1])
    with open(run / "probes.log", "a") as said:
        process = subprocess.Popen(
            ["nice", sys.executable, "-m", "pathssl", "probe", str(run), "--late"],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
            },
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # signals to this one are not meant for it
        )
    if sends and last:
        process.wait()
