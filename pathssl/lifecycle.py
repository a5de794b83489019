"""What a run's folder tells of its life: status.json and log.txt, from the first moment to the last."""

import datetime
import logging
import os
import platform
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pathssl.distributed import ElsewhereError, is_main, rank, world_size
from pathssl.errors import UserError
from pathssl.records import read_status, write_status
from pathssl.training.interrupt import Interrupted
from pathssl.training.tracking import ended_by_agent

log = logging.getLogger(__name__)


class Failed(RuntimeError):
    """A run that ended with an error, which its status.json and log.txt hold in full."""


@contextmanager
def log_file(folder: Path) -> Iterator[None]:
    """Everything logged inside goes to log.txt too, after what earlier starts of the run wrote there."""
    handler = logging.FileHandler(folder / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s  %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


class Status:
    """Keeps status.json: running inside, then finished, preempted (asked to stop) or failed with the traceback.

    The first process of the run writes it; another one only where it fails, since the first may then wait for it in vain.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        before = read_status(folder) or {}
        self.folder, self.step, self.starts = folder, before.get("step", 0), before.get("starts", 0)
        self.total_steps, self.batch_size = config["derived"]["total_steps"], config["batch"]["size"]

    def running(self, step: int) -> None:
        self.step = step
        self._write("running")

    def __enter__(self) -> "Status":
        if is_main():
            self._write("running", started=_process_started(), starts=self.starts + 1)
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None or isinstance(error, KeyboardInterrupt):
            if is_main():
                self._write("finished" if error is None else "preempted", for_good=_for_good(error))
        elif not isinstance(error, ElsewhereError):
            text = "".join(traceback.format_exception(kind, error, trace))
            where = f" in process {rank()} of {world_size()}" if world_size() > 1 else ""
            # The first to fail tells why; the others then fail because it is gone.
            if (read_status(self.folder) or {}).get("state") != "failed":
                self._write("failed", text)
            if not isinstance(error, UserError):  # whose sentence says all
                log.error(text)
                raise Failed(f"{self.folder} failed{where}: {error}") from error

    def _write(self, state: str, error: str | None = None, for_good: bool = False, **start: Any) -> None:
        step = self.step if is_main() else (read_status(self.folder) or {}).get("step", self.step)
        write_status(
            self.folder,
            state,
            step=step,
            total_steps=self.total_steps,
            patches_seen=step * self.batch_size,
            host=platform.node(),
            job_id=None if for_good else slurm_job(),  # nobody is to ask what has become of it
            error=error,
            **start,
        )


def _for_good(error: BaseException | None) -> bool:
    return isinstance(error, Interrupted) and ended_by_agent(error)


def slurm_job() -> str | None:
    """The SLURM job that this process belongs to: "12", or "12_3" in an array."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _process_started() -> str:
    """When this process was started (on other systems than Linux: now), as ISO 8601."""
    moment = datetime.datetime.now(datetime.UTC)
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # since the machine's start
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        pass
    else:
        moment -= datetime.timedelta(seconds=up_s - ticks / os.sysconf("SC_CLK_TCK"))
    return moment.isoformat(timespec="milliseconds")
