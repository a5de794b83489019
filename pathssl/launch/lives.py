"""Processes of train.py, watched by what their run's folder tells, and killed at moments of the run's life."""

import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pathssl.errors import INTERRUPTED
from pathssl.records import read_metrics, read_status
from pathssl.training.checkpoints import STATE, Checkpoints

log = logging.getLogger(__name__)
_POLL_S, _POLL_SAVES_S, _SPEAK_S = 0.01, 0.001, 30.0
_OF_TORCHRUN = 1  # the exit code of torchrun, whatever those of its processes
_HEARD_WITHIN = 2  # steps: one may end, and another begin, while a signal is on its way


@dataclass(frozen=True)
class Timeline:
    """When an unbroken run spoke, in seconds after its first word: its rows of metrics.jsonl, its end. save_s: its longest save."""

    rows_s: list[float]
    length_s: float
    save_s: float


@dataclass(frozen=True)
class Moment:
    """`delay_s` after the run has `rows` rows; with `save_s`, so long after the next save has begun from then on."""

    rows: int
    delay_s: float
    save_s: float | None

    @classmethod
    def at(cls, timeline: Timeline, place: float, place_in_save: float | None) -> "Moment":
        """The moment at the fraction `place` of an unbroken life, in which all steps count alike, and the start and the end as a step each.

        place_in_save: the fraction of a save that the kill then waits for.
        """
        bounds_s = [0.0, *timeline.rows_s, timeline.length_s]
        rows, part = divmod(place * (len(bounds_s) - 1), 1)
        since_s, until_s = bounds_s[int(rows)], bounds_s[int(rows) + 1]
        save_s = None if place_in_save is None else place_in_save * timeline.save_s
        return cls(int(rows), part * (until_s - since_s), save_s)


@dataclass(frozen=True)
class Kill:
    """What came of a kill.

    sent: whether the process still lived. step: of the run's last row then, None where there was none. exit_code: as subprocess has it.
    in_save: whether a half-written checkpoint was left. saved: the step that the run goes on from, None where nothing had been saved.
    processes: of the run; the exit code of several is torchrun's.
    """

    signal: str
    sent: bool
    step: int | None
    exit_code: int
    in_save: bool
    saved: int | None
    processes: int

    def must_be_heard(self, total_steps: int) -> bool:
        """Whether the run listened to SIGTERM then for certain: not yet before its first row, perhaps no more in its last steps."""
        asked = self.sent and self.signal == "SIGTERM"
        return asked and self.step is not None and self.step < total_steps - _HEARD_WITHIN

    def fault(self, total_steps: int) -> str | None:
        """What is wrong with how the process ended, in words.

        SIGTERM makes a run stop after the step with the code that asks for another try; it ends it at once where it listens not yet or no
        more, and comes too late in the last step.
        """
        number = signal.Signals[self.signal]
        allowed = {-number} if self.sent else {0}
        if self.sent and number == signal.SIGTERM:
            late = self.step is not None and self.step >= total_steps - _HEARD_WITHIN
            allowed |= {INTERRUPTED, 0} if late else {INTERRUPTED}
            allowed |= {_OF_TORCHRUN} if self.processes > 1 else set()
        if self.exit_code in allowed:
            return None
        return f"{self.signal} after step {self.step} of {total_steps} ended with exit code {self.exit_code}"


class Life:
    """train.py, started by `line` in so many `processes`, which work on the folder `run`; killed where the block ends before it."""

    def __init__(self, line: list[str], run: Path, name: str, processes: int = 1):
        self.run, self.name, self.processes = run, name, processes
        self._status, self._metrics = run / "status.json", run / "metrics.jsonl"
        self._before = _signature(self._status), _signature(self._metrics)
        self._left_over = self._half_written()
        self._spoken = time.monotonic()
        self._output, self._errors = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115  # closed in __exit__
        # A session of its own, so that what it started can be ended with it.
        self.process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._errors, start_new_session=True
        )

    def __enter__(self) -> "Life":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._output.close()
        self._errors.close()

    def end(self) -> int:
        """The exit code, once there is one."""
        self._wait_for(lambda: False)
        return self.process.returncode

    def watch(self) -> Timeline:
        """The timeline of a process that is left alone, once it has ended."""
        rows_s, save_s, length_s, saving_since = [], _POLL_S, 0.0, None
        self._wait_for(self.has_spoken)
        start = time.monotonic()
        while self.process.poll() is None and not length_s:
            self._pause(_POLL_S)
            now = time.monotonic()
            rows_s += [now - start] * (self.rows() - len(rows_s))
            saving_since = (saving_since or now) if self.is_saving() else None
            save_s = max(save_s, now - (saving_since or now))
            if (read_status(self.run) or {}).get("state") == "finished":
                length_s = now - start
        self.end()
        return Timeline(rows_s, length_s, save_s)

    def kill(self, number: int, moment: Moment) -> Kill:
        """Sends the signal at `moment` of this process, and waits for its end."""
        lives = self._wait_for(self.has_spoken) and self._wait_for(lambda: self.rows() >= moment.rows)
        lives = lives and self._lasts(moment.delay_s)
        if moment.save_s is not None:
            lives = lives and self._wait_for(self.is_saving, _POLL_SAVES_S) and self._lasts(moment.save_s)
        rows = read_metrics(self.run)
        if lives:
            self.process.send_signal(number)
        exit_code, checkpoints = self.end(), Checkpoints(self.run)
        saved = [step for step in checkpoints.steps() if (checkpoints.path(step) / STATE).is_file()]
        return Kill(
            signal=signal.Signals(number).name,
            sent=lives,
            step=rows[-1]["step"] if rows else None,
            exit_code=exit_code,
            in_save=self.is_saving(),
            saved=saved[-1] if saved else None,
            processes=self.processes,
        )

    def words(self) -> str:
        """What it said on stderr, else the end of what it said."""
        for file, lines in ((self._errors, None), (self._output, 12)):
            file.seek(0)
            said = file.read().decode(errors="replace").strip().splitlines()
            if said:
                return "\n".join(said[-(lines or len(said)) :])
        return "(it said nothing)"

    def has_spoken(self) -> bool:
        """Whether this process has begun to write in the run's folder."""
        return _signature(self._status) not in (None, self._before[0])

    def rows(self) -> int:
        """The rows of metrics.jsonl that this process kept or wrote: one that goes on first cuts the file, which is another one then."""
        return len(read_metrics(self.run)) if _signature(self._metrics) not in (None, self._before[1]) else 0

    def is_saving(self) -> bool:
        """Whether a checkpoint is being written (or removed), or was when the process was killed."""
        return bool(self._half_written() - self._left_over)

    def _half_written(self) -> set[tuple[str, tuple[int, int] | None]]:
        return {(path.name, _signature(path)) for path in (self.run / "checkpoints").glob(".step_*")}

    def _wait_for(self, happened: Callable[[], bool], poll_s: float = _POLL_S) -> bool:
        """True once it has happened; False where the process ends before."""
        while self.process.poll() is None:
            if happened():
                return True
            self._pause(poll_s)
        return False

    def _lasts(self, seconds: float) -> bool:
        """Whether the process lives on for so long."""
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            if (left := until - time.monotonic()) <= 0:
                return True
            self._pause(min(left, _POLL_S))
        return False

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)
        if time.monotonic() - self._spoken > _SPEAK_S:
            self._spoken = time.monotonic()
            if self.has_spoken() and (status := read_status(self.run)):
                log.info("%s: step %d of %d", self.name, status["step"], status["total_steps"])


def _signature(path: Path) -> tuple[int, int] | None:
    """Another one for every new or changed file under this name; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
