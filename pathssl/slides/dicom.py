"""DICOM's slides: a slide is a series, most often a folder of its own, with a file for each level, and others for label and overview."""

import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, TypeVar

SUFFIX = ".dcm"
_PREAMBLE = 132
_SERIES = 0x0020000E  # SeriesInstanceUID
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_UNDEFINED = 0xFFFFFFFF
T = TypeVar("T", bound=PurePath)


def one_a_series(files: Iterable[T], series: Callable[[T], str | None]) -> list[T]:
    """`files` with only the first, by name, of each series of DICOM files in a folder: OpenSlide finds the others from any of them.

    series: of a file, as `series_of`; one of which that is not known stays.
    """
    files, folders = list(files), defaultdict(list)
    for file in files:
        if file.suffix.lower() == SUFFIX:
            folders[file.parent].append(file)
    extra = set()
    for members in folders.values():
        known = set()
        for file in sorted(members) if len(members) > 1 else []:
            if (uid := series(file)) in known:
                extra.add(file)
            elif uid is not None:
                known.add(uid)
    return [file for file in files if file not in extra]


def series_of(file: Path) -> str | None:
    """The SeriesInstanceUID of a file with explicit lengths in little-endian order, as all slides have it; None where it has none."""
    try:
        with open(file, "rb") as stream:
            return series_in(stream)
    except OSError:
        return None


def series_in(stream: BinaryIO) -> str | None:
    """The same of a file that is open, or of its beginning."""
    try:
        stream.seek(_PREAMBLE)
        return _series(stream)
    except struct.error:
        return None


def _series(stream: BinaryIO) -> str | None:
    depth = 0  # in sequences whose end is marked
    while True:
        tag = int.from_bytes(struct.pack(">HH", *struct.unpack("<HH", stream.read(4))))
        if tag > _SERIES and depth == 0:
            return None
        if tag in (_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE):
            (length,) = struct.unpack("<I", stream.read(4))
            depth -= tag == _END_OF_SEQUENCE
        else:
            kind = stream.read(2)
            wide = kind in _LONG
            (length,) = struct.unpack("<2xI" if wide else "<H", stream.read(6 if wide else 2))
            if tag == _SERIES and depth == 0:
                return stream.read(length).decode("ascii", "replace").rstrip("\0 ")
            depth += length == _UNDEFINED
        if length != _UNDEFINED:
            stream.seek(length, 1)


def titles(names: Iterable[str]) -> dict[str, str]:
    """What each slide is called by itself: the folder of DICOM files that are one slide, else the file without its ending."""
    paths = {name: PurePosixPath(name) for name in names}
    folders = Counter(path.parent for path in paths.values() if path.suffix.lower() == SUFFIX)
    return {
        name: path.parent.name
        if path.suffix.lower() == SUFFIX and path.parent.name and folders[path.parent] == 1
        else path.stem
        for name, path in paths.items()
    }
