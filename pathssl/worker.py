"""A process of its own that runs one function and talks through a pipe.

It is started from the function's module and not forked from the program that needs it: no inherited threads, no torch (cuCIM must come
first, and a start stays short), and a decoder that crashes takes nothing along.
"""

import logging
import os
import pkgutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

_MAIN = "import sys; from pathssl.worker import serve; serve(sys.argv[1], int(sys.argv[2]))"
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # Image buffers are reused by the allocator; by default each one above 128 kB is mapped, page-faulted and unmapped anew.
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}


class WorkerDied(Exception):
    """How a worker's process ended, as in `signal 11`; `traceback`: the text of the exception that ended it, where it was one."""

    def __init__(self, how: str, traceback: str | None = None):
        super().__init__(how)
        self.traceback = traceback


@dataclass(frozen=True)
class Crash:
    """A worker's last message: the traceback of the exception that ends it."""

    traceback: str


class Worker:
    """Runs `function` ("module:name") with its end of a pipe as the argument, until the pipe closes.

    descriptors: open files that the process is to have under the same numbers.
    """

    def __init__(self, function: str, descriptors: tuple[int, ...] = ()):
        self.connection, far_end = Pipe()
        self._traceback: str | None = None
        package_root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, function, str(far_end.fileno())],
            pass_fds=[far_end.fileno(), *descriptors],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # libraries print there what we hear of otherwise
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its workers
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
        )
        far_end.close()

    def send(self, message: Any) -> None:
        with suppress(BrokenPipeError):  # it is dead, and `answers` will say so
            self.connection.send(message)

    def answers(self) -> Iterator[Any]:
        """What has arrived by now; WorkerDied once the process is gone. What the worker logged is logged here."""
        while self.connection.poll():
            try:
                message = self.connection.recv()
            except (EOFError, ConnectionResetError):
                code = self._process.wait()
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                raise WorkerDied(how, self._traceback) from None
            if isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            elif isinstance(message, Crash):
                self._traceback = message.traceback  # raised with how the process ended, once it has
            else:
                yield message

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.connection.close()


def serve(function: str, descriptor: int) -> None:
    """A worker's life: `function(connection)`, until the other end is closed or its process gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # meant for the parent, which ends its workers itself
    connection = Connection(descriptor)

    def last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(Crash("".join(traceback.format_exception(kind, error, trace))))
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = last_words
    logging.basicConfig(level=logging.INFO, handlers=[_ToParent(connection)])
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pkgutil.resolve_name(function)(connection)


class _ToParent(QueueHandler):
    """Sends what is logged through the pipe."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self.queue.send(record)
