"""What one check found, and ways to look that end in time and without a traceback. Needs nothing but Python."""

import multiprocessing
import os
import signal
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from typing import Any

from pathssl.worker import Worker

# What importing a package raises that is there but does not work: a library is missing, or it was built for another numpy.
UNLOADABLE = (ImportError, OSError, AttributeError, ValueError)
STATES = ("ok", "warning", "broken", "absent")
_WIDTH, _STATE_WIDTH, _NAME_WIDTH = 100, 9, 14


@dataclass(frozen=True)
class Check:
    """state: one of STATES (absent: not here, and not needed to train). remedy: a sentence, for all but ok. figures: for machines."""

    name: str
    state: str
    found: str
    remedy: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.state in STATES and (self.state == "ok" or self.remedy), self


def table(checks: Sequence[Check]) -> str:
    """A line a check, with its remedy below it, and a last line that sums up."""
    lines = []
    for check in checks:
        indent = " " * (_STATE_WIDTH + _NAME_WIDTH)
        head = f"{check.state:<{_STATE_WIDTH}}{check.name:<{_NAME_WIDTH}}"
        lines += _wrapped(check.found, head, indent)
        if check.remedy:
            lines += _wrapped(check.remedy, f"{indent}-> ", f"{indent}   ")
    broken, warnings = (sum(check.state == state for check in checks) for state in ("broken", "warning"))
    counted = [f"{broken} broken"] if broken else ["Nothing is broken"]
    counted += [f"{warnings} warning{'s' if warnings > 1 else ''}"] if warnings else []
    return "\n".join([*lines, "", ", ".join(counted) + "."])


def _wrapped(text: str, first: str, others: str) -> list[str]:
    # Commands are to be copied: they are broken at spaces only.
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def within(limit_s: float, look: Callable[[], Any]) -> Any:
    """What `look` returns or raises; TimeoutError where it takes longer. It is then left behind in a thread that ends with the process."""
    pool = ThreadPool(1)
    try:
        return pool.apply_async(look).get(limit_s)
    except multiprocessing.TimeoutError:
        raise TimeoutError(f"no answer in {limit_s:g} s") from None
    finally:
        pool.terminate()


def ask_worker(function: str, message: Any, limit_s: float) -> Any:
    """What `function` ("module:name"), in a process of its own, sends back; WorkerDied, or TimeoutError where it takes longer."""
    worker = Worker(function)
    try:
        worker.send(message)
        end = time.monotonic() + limit_s
        while (left := end - time.monotonic()) > 0:
            if worker.connection.poll(left):
                for answer in worker.answers():
                    return answer
        raise TimeoutError(f"no answer in {limit_s:g} s")
    finally:
        worker.kill()


def run(command: Sequence[str], limit_s: float) -> tuple[bool, str]:
    """(whether it ended well, what it printed or why there is nothing)."""
    # A file, not a pipe: what the command leaves running would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            return False, str(error)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False, f"no answer in {limit_s:g} s"
        output.seek(0)
        return code == 0, output.read().decode(errors="replace").strip()


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip() if text.strip() else "no reason given"
