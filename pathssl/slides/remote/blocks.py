"""A local file that holds some blocks of a remote one, and the record of which; the rest are holes.

FILE          as long as the remote file, sparse
FILE.blocks   8 bytes a block: 4 of CRC-32, and 4 that say under which start of which machine it was written; 0: a hole

A block is recorded after its bytes were written, so that a process that is killed leaves none that is not there. A machine that loses
power may write the two in another order, and one of two that share a network disk may see them so: blocks that were written under
another start of a machine are therefore believed only after a look at their bytes.
"""

import errno
import os
import weakref
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from pathssl.slides.remote.facts import Facts, Full

BLOCK = 16 * 1024
_GAP = 4  # blocks: holes that are no farther apart are asked for together, with what lies between them
_MOST = 512  # blocks that are asked for together
_RECORD = np.dtype("<u8")
_LOW = np.uint64(0xFFFFFFFF)


class BlockFile:
    """`path`, a local image of the file at `url`. Opened anew by each process."""

    def __init__(self, path: Path, url: str, facts: Facts):
        self.path, self.url, self.facts = path, url, facts
        self.count = -(-facts.size // BLOCK)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._record = os.open(path.with_name(path.name + ".blocks"), os.O_RDWR | os.O_CREAT, 0o644)
        self._close = [weakref.finalize(self, os.close, descriptor) for descriptor in (self._file, self._record)]
        if os.fstat(self._file).st_size != facts.size:  # new, or somebody has removed or cut it
            os.ftruncate(self._record, 0)
            os.ftruncate(self._file, facts.size)

    @property
    def descriptor(self) -> int:
        return self._file

    @property
    def record_descriptor(self) -> int:
        return self._record

    def missing(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Ranges of bytes, whole blocks, that have to be fetched so that these ranges are here; neighbours are put together."""
        holes: list[int] = []
        for first, last in _blocks(ranges):
            if not self._all_here(first, last):
                here = self._looked_at(first, self._records(first, last), everything=False)
                holes += (first + np.flatnonzero(~here)).tolist()
        runs: list[list[int]] = []
        for block in holes:
            if runs and block - runs[-1][1] <= _GAP and block - runs[-1][0] < _MOST:
                runs[-1][1] = block + 1
            else:
                runs.append([block, block + 1])
        return [(first * BLOCK, min(last * BLOCK, self.facts.size)) for first, last in runs]

    def writer(self, position: int) -> Callable[[bytes], None]:
        """A function that takes the remote file's bytes from `position` on, part by part, and keeps the blocks that are complete."""
        place, held = position, bytearray()

        def write(part: bytes) -> None:
            nonlocal place
            held.extend(part)
            if place % BLOCK:  # a block whose beginning is not among the bytes
                skipped = min(BLOCK - place % BLOCK, len(held))
                del held[:skipped]
                place += skipped
            whole = len(held) if place + len(held) == self.facts.size else len(held) - len(held) % BLOCK
            if whole and not place % BLOCK:
                self._keep(place, bytes(held[:whole]))
                del held[:whole]
                place += whole

        return write

    def sound(self, ranges: Sequence[tuple[int, int]]) -> bool:
        """Whether the bytes of these ranges are those that were fetched; blocks that are not become holes again."""
        sound = True
        for first, last in _blocks(ranges):
            records = self._records(first, last)
            sound &= bool((self._looked_at(first, records, everything=True) | (records == 0)).all())
        return sound

    def close(self) -> None:
        for close in self._close:
            close()

    def _all_here(self, first: int, last: int) -> bool:
        """As `_looked_at` says of blocks, without a look at bytes and without numpy, which takes longer for a few."""
        data, start = os.pread(self._record, 8 * (last - first), 8 * first), _start_bytes()
        return len(data) == 8 * (last - first) and all(data[n::8] == start[n] * (last - first) for n in range(4))

    def _looked_at(self, first: int, records: np.ndarray, everything: bool) -> np.ndarray:
        """(n,) bool: which of n blocks are here; those of another start of a machine are looked at, or all."""
        here = records & _LOW == _this_start()
        for n in np.flatnonzero(records if everything else (records != 0) & ~here).tolist():
            checksum = int(records[n]) >> 32
            here[n] = self._checksum(first + n) == checksum
            self._write_records(first + n, _records([checksum]) if here[n] else np.zeros(1, _RECORD))
        return here

    def _checksum(self, block: int) -> int:
        return zlib.crc32(os.pread(self._file, BLOCK, block * BLOCK))

    def _records(self, first: int, last: int) -> np.ndarray:
        data = os.pread(self._record, 8 * (last - first), 8 * first)
        return np.frombuffer(data.ljust(8 * (last - first), b"\0"), _RECORD)

    def _keep(self, position: int, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, memoryview(data)[written:], position + written)
            checksums = [zlib.crc32(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
            self._write_records(position // BLOCK, _records(checksums))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Full(
                    error.errno,
                    f"the disk of the slide cache {self.path.parent} is full: make room there, lower slide_cache.gib, or give another "
                    "slide_cache.dir",
                ) from error
            raise Full(error.errno, f"the slide cache cannot be written: {error.strerror} ({self.path})") from error

    def _write_records(self, first: int, records: np.ndarray) -> None:
        os.pwrite(self._record, records.tobytes(), 8 * first)


def _blocks(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(first, last + 1) of runs of blocks under ranges of bytes, ascending and apart."""
    runs: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if start < stop:
            first, last = start // BLOCK, -(-stop // BLOCK)
            if runs and first <= runs[-1][1]:
                runs[-1] = runs[-1][0], max(last, runs[-1][1])
            else:
                runs.append((first, last))
    return runs


def _records(checksums: Sequence[int]) -> np.ndarray:
    return np.array(checksums, _RECORD) << np.uint64(32) | _this_start()


def _start_bytes() -> list[bytes]:
    """Of each record of this start, the first four bytes."""
    return _split(int(_this_start()))


@cache
def _split(number: int) -> list[bytes]:
    return [byte.to_bytes(1) for byte in number.to_bytes(4, "little")]


@cache
def _this_start() -> np.uint64:
    """A number of this start of this machine, not 0."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        name = os.urandom(16)  # elsewhere each process looks for itself
    return np.uint64(zlib.crc32(name) | 1)
