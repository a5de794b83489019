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

from pathssl.allotment import most_timeouts, slurm_job, time_is_over
from pathssl.distributed import ElsewhereError, from_main, is_main, rank, world_size
from pathssl.errors import UserError
from pathssl.records import read_status, write_status
from pathssl.training.interrupt import Interrupted
from pathssl.training.tracking import ended_by_agent, last_saved_step

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


class Sent:
    """Around everything that a run does: where a launcher wrote `queued`, an error before there is a Status is told in status.json too."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        before = read_status(self.folder) or {}
        if error is None or isinstance(error, KeyboardInterrupt | ElsewhereError) or before.get("state") != "queued":
            return
        text = str(error) if isinstance(error, UserError) else "".join(traceback.format_exception(kind, error, trace))
        numbers = {name: before[name] for name in ("step", "total_steps", "patches_seen")}
        write_status(self.folder, "failed", **numbers, host=platform.node(), job_id=slurm_job(), error=text)


class Status:
    """Keeps status.json: running inside, then finished, preempted (asked to stop) or failed with the traceback.

    The first process of the run writes it; another one only where it fails, since the first may then wait for it in vain.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        before = read_status(folder) or {}
        self.folder, self.step, self.starts = folder, before.get("step", 0), before.get("starts", 0)
        # Who starts again what was given up gives it all its time-outs again.
        self.timeouts = 0 if before.get("state") == "failed" else before.get("timeouts", 0)
        self.total_steps, self.batch_size = config["derived"]["total_steps"], config["batch"]["size"]

    def running(self, step: int) -> None:
        self.step = step
        self._write("running")

    def __enter__(self) -> "Status":
        if is_main():
            self._write("running", started=_process_started(), starts=self.starts + 1)
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Interrupted) and (limit := from_main(self._given_up())):
            if is_main():
                self._write("failed", limit)
            raise Failed(limit) from error
        if error is None or isinstance(error, KeyboardInterrupt):
            if is_main():
                if error is not None and not isinstance(
                    error, Interrupted
                ):  # at once: what came after the last state is lost
                    self.step = max(0, last_saved_step(self.folder))
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

    def _given_up(self) -> str | None:
        """Counts a time-out; a sentence where it was one too many."""
        if not (is_main() and time_is_over()):
            return None
        self.timeouts += 1
        if self.timeouts <= most_timeouts():
            return None
        return (
            f"{self.folder} reached its job's time limit {self.timeouts} times, and hydra.launcher.max_num_timeout={most_timeouts()}: its "
            "state is saved. `python -m pathssl retry`, or the same command, goes on; a longer hydra.launcher.timeout_min needs fewer jobs."
        )

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
            timeouts=self.timeouts,
            **start,
        )


def _for_good(error: BaseException | None) -> bool:
    return isinstance(error, Interrupted) and ended_by_agent(error)


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
