"""Files that are either complete or absent, whatever kills the process."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pathssl.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what some network file systems answer
_TRIES, _BETWEEN_TRIES_S = 5, 0.05


def write_atomic(path: Path, content: str | bytes | memoryview) -> None:
    """Writes `path` so that a reader finds the old content or the new, never a half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path` that takes its name when the block ends well, and vanishes otherwise.

    An existing `path` is replaced. A folder of this kind that a killed process left behind is removed on the next try.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        fsync_folder(temporary)
        if path.exists():
            old = path.with_name(f".{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Removes a folder so that a process killed meanwhile leaves it whole or gone."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(path, old)
    shutil.rmtree(old)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds `path` as a lock file: of several processes that want to build the same thing, one builds and the others wait."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def locked_or_refused(path: Path, refusal: str) -> Iterator[None]:
    """As `locked`, but hardly waits: UserError with `refusal` where another process holds the lock."""
    with open(path, "a") as handle:
        for tries_left in reversed(range(_TRIES)):  # `is_locked` has it for a moment
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not tries_left:
                    raise UserError(refusal) from error
                time.sleep(_BETWEEN_TRIES_S)
        yield


def is_locked(path: Path) -> bool | None:
    """Whether a process holds `path` as a lock file; None where the file system has no locks."""
    if not path.is_file():
        return False
    with open(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise
    return False


def make_folder(folder: Path, named_by: str) -> None:
    """Makes `folder` where it is not there; UserError where a file has its name. named_by: the option that gave it, such as --to."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{named_by} {folder} is a file: name a folder.")
    folder.mkdir(parents=True, exist_ok=True)


def fsync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` survive a power cut (a no-op where folders cannot be opened)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
