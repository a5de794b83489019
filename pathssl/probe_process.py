"""The process that probes beside training: how a run starts it."""

import os
import subprocess
import sys
from pathlib import Path


def start_probes(run: Path) -> None:
    """Begins to probe the run's new checkpoints, in a process that goes on when this one dies, with little claim to the processor.

    Where the run is a job of SLURM's, that process sends another job, and ends.
    """
    root = str(Path(__file__).parents[1])
    with open(run / "probes.log", "a") as said:
        subprocess.Popen(
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
