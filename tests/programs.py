"""train.py and `python -m pathssl` as they are typed, each in a fork of this process, which has imported what takes seconds."""

import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LIMIT_S = 240


def train(*overrides: object, cwd: Path) -> subprocess.CompletedProcess:
    """`python train.py OVERRIDES` in `cwd`."""
    import pathssl.run  # noqa: F401  # what every one would import

    return _forked(lambda: runpy.run_path(sys.argv[0], run_name="__main__"), [ROOT / "train.py", *overrides], cwd)


def train_afresh(*overrides: object, cwd: Path) -> subprocess.CompletedProcess:
    """The same in a process that has imported nothing yet."""
    command = [sys.executable, str(ROOT / "train.py"), *map(str, overrides)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_LIMIT_S, check=False)


def pathssl(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """`python -m pathssl ARGUMENTS` in `cwd`."""
    import pathssl.run  # noqa: F401

    return _forked(
        lambda: runpy.run_module("pathssl", run_name="__main__", alter_sys=True), ["pathssl", *arguments], cwd
    )


def _forked(program: Callable[[], object], argv: list[object], cwd: Path) -> subprocess.CompletedProcess:
    """How the program ended and what it said, as subprocess.run tells it."""
    argv = [str(word) for word in argv]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _be(program, argv, cwd, out.fileno(), err.fileno())
        code = _ended(child)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess(argv, code, *said)


def _be(program: Callable[[], object], argv: list[str], cwd: Path, out: int, err: int) -> None:
    """Turns this process into the program, which ends it."""
    code = 1
    try:
        os.chdir(cwd)
        sys.argv = argv
        for number, descriptor in ((1, out), (2, err)):
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        try:
            program()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:  # as the interpreter does with what nobody caught
            traceback.print_exc()
            raise
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # what pytest does at its exit is not the program's to do
        os._exit(code)


def _ended(child: int) -> int:
    until = time.monotonic() + _LIMIT_S
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            raise subprocess.TimeoutExpired("a forked program", _LIMIT_S)
        time.sleep(0.01)
