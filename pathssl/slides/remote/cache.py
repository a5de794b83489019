"""The folder of the mirrors, and how it is kept below its limit."""

import ctypes
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from pathssl.slides.remote.blocks import BLOCK

log = logging.getLogger(__name__)

# Of each mirror: what it is of; ranges of bytes that opening it needs; whether it is kept whole
FACTS, OPENING, WHOLE = "mirror.json", "opening.npy", "whole"
_FULL, _RELIEVED = 0.95, 0.85  # of the limit: when room is made, and how much is then left
_LOOK, _LOOK_BYTES = (
    0.01,
    2**20,
)  # of the limit, and at least: a process looks at the whole after it has fetched so much
_GONE = ".gone-"
_PUNCH_HOLE, _KEEP_SIZE = 2, 1


@dataclass(frozen=True)
class SlideCache:
    """folder: where mirrors lie, one folder each. limit_bytes: what they may take together on the disk.

    Room is made by taking the pixels of the slides that were used longest ago; what is needed to open a slide stays, unless all of
    that is too much. A slide that a process has open keeps at least that.
    """

    folder: Path
    limit_bytes: int

    def mirror_folder(self, url: str, size: int, number: int) -> Path:
        """Each version of a file has its own."""
        return self.folder / hashlib.sha256(f"{url}\n{size}\n{number}".encode()).hexdigest()[:24]

    def fetched(self, count: int) -> None:
        """Is told of bytes that this process has fetched; makes room now and then."""
        process = os.getpid()
        _fetched.setdefault((self, process), self.limit_bytes + _LOOK_BYTES)  # looks at once
        _fetched[self, process] += count
        if _fetched[self, process] >= max(_LOOK * self.limit_bytes, _LOOK_BYTES):
            _fetched[self, process] = 0
            self.make_room()

    def make_room(self) -> None:
        """Takes pixels, then whole mirrors, until the limit is kept. Another process that does so is not waited for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "room.lock", "a") as lock:
            if not _locked(lock):
                return
            mirrors = sorted(self._mirrors(), key=lambda mirror: mirror[0])
            taken = sum(size for _, size, _ in mirrors)
            if taken <= _FULL * self.limit_bytes:
                return
            can_punch = _punch(lock.fileno(), 0, BLOCK)  # to be known before a record says that bytes are gone
            for remove in (_take_pixels, _take_all) if can_punch else (_take_all,):
                for _, _, folder in mirrors:
                    if taken > _RELIEVED * self.limit_bytes:
                        taken -= remove(folder)
            if taken > self.limit_bytes and self not in _warned:
                _warned.add(self)
                log.warning(
                    "The slides that are open keep %.1f GiB in %s, and slide_cache.gib allows %.3g: raise it, or lower loader.open_slides "
                    "or loader.workers.",
                    taken / 2**30, self.folder, self.limit_bytes / 2**30,
                )  # fmt: skip

    def _mirrors(self) -> Iterator[tuple[float, int, Path]]:
        """(last use, bytes on the disk, folder) of each mirror."""
        for folder in os.scandir(self.folder):
            if folder.name.startswith(_GONE):
                shutil.rmtree(folder.path, ignore_errors=True)  # a process was killed while it removed this
            elif folder.is_dir() and not folder.name.startswith("."):
                with suppress(FileNotFoundError):
                    used = os.stat(os.path.join(folder.path, FACTS)).st_mtime
                    yield used, _on_disk(Path(folder.path)), Path(folder.path)


_fetched: dict[tuple[SlideCache, int], int] = {}
_warned: set[SlideCache] = set()


def _on_disk(folder: Path) -> int:
    taken = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it was a temporary one
            taken += 512 * file.stat().st_blocks * file.is_file()
    return taken


@contextmanager
def _alone_with(path: Path) -> Iterator[bool]:
    """Whether nobody else uses what this file stands for; then nobody does before the end of the block."""
    with open(path, "r+b") as file:  # to be written: NFS gives no lock for oneself to who only reads
        yield _locked(file)


def _locked(file: IO) -> bool:
    """Whether the file is locked for this process alone."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # in use
        return False
    except OSError as error:
        _say_unbounded(error.strerror)
        return False
    return True


@cache
def _say_unbounded(reason: str) -> None:
    log.warning(
        "The slide cache cannot be kept below slide_cache.gib, for its disk gives no locks (%s): give another slide_cache.dir, or remove "
        "mirrors yourself while nobody reads them.",
        reason,
    )


def _take_pixels(folder: Path) -> int:
    """Bytes that were given back: of a mirror all but what opening it needs. Nothing where it is read just now, is kept whole, or was
    never finished by a process that ended while it made it.
    """
    facts = json.loads((folder / FACTS).read_text())
    data, record = folder / facts["name"], folder / f"{facts['name']}.blocks"
    if not (data.is_file() and record.is_file()):
        return 0
    before = _on_disk(folder)
    with _alone_with(record) as alone, open(data, "r+b") as file, open(record, "r+b") as records:
        if not alone or (folder / WHOLE).exists() or not (folder / OPENING).is_file():
            return 0
        kept = np.zeros(-(-facts["size"] // BLOCK), bool)
        for start, stop in np.load(folder / OPENING).tolist():
            kept[start // BLOCK : -(-stop // BLOCK)] = True
        known = np.frombuffer(records.read().ljust(8 * len(kept), b"\0"), "<u8").copy()
        taken = np.flatnonzero((known != 0) & ~kept)
        known[taken] = 0
        records.seek(0)
        records.write(known.tobytes())
        records.flush()
        os.fsync(records.fileno())  # the record first: it must never name a block that is gone
        for first, count in _runs(taken):
            if not _punch(file.fileno(), first * BLOCK, count * BLOCK):
                return 0
    return before - _on_disk(folder)


def _take_all(folder: Path) -> int:
    """Bytes that were given back: of a mirror that no process has open, all."""
    with _alone_with(folder / FACTS) as alone:
        if not alone:
            return 0
        before = _on_disk(folder)
        gone = folder.with_name(f"{_GONE}{folder.name}")
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
    return before


def _runs(blocks: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, count) of blocks that follow one another."""
    if len(blocks):
        for run in np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1):
            yield int(run[0]), len(run)


def _punch(file: int, start: int, count: int) -> bool:
    """Gives a file's bytes back to the disk; False where its file system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    return call is not None and not call(file, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(count))
