"""The process that probes beside training: what it has to do, and how a run starts it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from pathssl.allotment import slurm_job
from pathssl.probe_records import is_probed
from pathssl.records import read_config, read_submission
from pathssl.schedules import steps_every

log = logging.getLogger(__name__)
ENDING = ".probes.ending"  # the number of the job that looks no more for new checkpoints


def unprobed(run: Path) -> list[int]:
    """The steps of checkpoints that are there and not probed. States saved between them are none: the loop does not probe those either."""
    config = read_config(run)
    scheduled = steps_every(config["train"]["checkpoint_every"], config["derived"]["total_steps"])
    there = {int(path.name.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*")}
    return sorted(step for step in there & scheduled if not is_probed(run, step))


def say_where(run: Path, gpu: str | None) -> None:
    """Warns of what is not as one may think where a run begins whose probes have the GPU `gpu`, as for `start_probes`."""
    if _sends(run):
        return
    if slurm_job() is not None:
        log.warning(
            "Probes are made inside this job, which `-m` has not sent, and end with it. Afterwards `python -m pathssl probe %s --late` "
            "makes those that are missing; with probe.where=inline none are.",
            run,
        )
    if gpu == "":
        log.warning(
            "Training leaves no GPU for the probes, which are made on the CPU and may take long; probe.where=inline makes them on the GPU."
        )


def _sends(run: Path) -> bool:
    """Whether the process that is to probe sends a job instead: where this one is in a job of the launcher's."""
    return slurm_job() is not None and read_submission(run) is not None


def start_probes(run: Path, *, gpu: str | None = None, last: bool = False) -> None:
    """Begins to probe the run's new checkpoints, in a process that goes on when this one dies, with little claim to the processor.

    Where the run was sent to SLURM, that process sends another job, and ends. gpu: the one that it has, "" for none; None leaves it this
    process's. last: this returns when a job is sent, since one that ends takes its processes with it.
    """
    root, sends = str(Path(__file__).parents[1]), _sends(run)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])}
    if gpu is not None and not sends:
        environ["CUDA_VISIBLE_DEVICES"] = gpu
    with open(run / "probes.log", "a") as said:
        process = subprocess.Popen(
            ["nice", sys.executable, "-m", "pathssl", "probe", str(run), "--late"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # signals to this one are not meant for it
        )
    if sends and last:
        process.wait()
