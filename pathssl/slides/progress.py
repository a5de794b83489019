"""The file in which a growing index keeps what it has found, so that a killed build goes on where it stopped."""

import base64
import errno
import fcntl
import json
import logging
import os
import zlib
from pathlib import Path

import numpy as np

from pathssl.slides.structure import LEVEL, Structure
from pathssl.slides.survey import Fault, Finding

log = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems


class Progress:
    """Append-only lines of JSON: the settings first, then a slide a line. One process at a time has it open.

    Lines stay on disk; in memory there is only where each begins.
    """

    def __init__(self, path: Path, settings: dict):
        self.path = path
        self._file = _open_alone(path)
        self._lines: dict[str, tuple[str, int]] = {}  # path of the slide -> (fingerprint, offset of its line)
        if not self._read(settings):
            self._file.truncate(0)
            self._write({"settings": settings})

    def _read(self, settings: dict) -> bool:
        """True where the file belongs to these settings; a last line that was cut short is dropped."""
        self._file.seek(0)
        header = self._file.readline()
        if not header.endswith(b"\n") or json.loads(header) != {"settings": settings}:
            return False
        offset = self._file.tell()
        for line in iter(self._file.readline, b""):
            if not line.endswith(b"\n"):
                self._file.truncate(offset)
                break
            record = json.loads(line)
            self._lines[record["path"]] = record["fingerprint"], offset
            offset += len(line)
        return True

    def slides(self) -> list[str]:
        """Those that were looked at."""
        return list(self._lines)

    def fingerprint(self, slide: str) -> str | None:
        """Of the file that was looked at, or None."""
        return self._lines[slide][0] if slide in self._lines else None

    def add(self, slide: str, fingerprint: str, found: Finding | Fault) -> None:
        record = {"path": slide, "fingerprint": fingerprint}
        if isinstance(found, Fault):
            record["reason"] = found.reason
        else:
            record |= {"mpp": found.mpp, "shape": found.tissue.shape, "tissue": _text(found.tissue)}
            file = found.structure
            record |= {"vendor": file.vendor, "file_bytes": file.file_bytes, "modified_ns": file.modified_ns}
            record["levels"] = _text(file.levels)
        self._lines[slide] = fingerprint, self._write(record)

    def find(self, slide: str) -> Finding | Fault:
        self._file.seek(self._lines[slide][1])
        record = json.loads(self._file.readline())
        if "reason" in record:
            return Fault(record["reason"], permanent=True)
        tissue = _array(record["tissue"], np.uint8).reshape(record["shape"])
        levels = _array(record["levels"], LEVEL)
        structure = Structure(record["vendor"], None, levels, record["file_bytes"], record["modified_ns"])
        return Finding(record["mpp"], tissue, structure)

    def _write(self, record: dict) -> int:
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        return offset

    def remove(self) -> None:
        self.path.unlink()

    def close(self) -> None:
        self._file.close()


def _text(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


def _array(text: str, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def _open_alone(path: Path):
    """The file, locked; waits for another process that builds the same index."""
    while True:
        file = open(path, "a+b")  # noqa: SIM115  the caller closes it
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("another process builds %s; waiting for it", path)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning("%s lies on a file system without locks: do not build this index twice at a time", path)
            return file
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # the other process finished and removed it
