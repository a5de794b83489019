"""Slides that are several files: which those are, and what of them changes when the slide does."""

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pathssl.slides.dicom import SUFFIX as DICOM
from pathssl.slides.dicom import series_of

MIRAX = ".mrxs"


def is_several(name: str) -> bool:
    """Whether a slide with this name is most often several files."""
    return PurePosixPath(name).suffix.lower() in (DICOM, MIRAX)


def local_version(file: Path) -> tuple[int, int]:
    """(bytes, time of modification in ns) of a slide; of several files their sum, and a number that stands for all their times."""
    facts = os.stat(file)
    others = _others(file) if is_several(file.name) else []
    if not others:
        return facts.st_size, facts.st_mtime_ns
    all_facts = [("", facts), *((other.relative_to(file.parent).as_posix(), os.stat(other)) for other in others)]
    number = number_of_all((name, one.st_size, one.st_mtime_ns) for name, one in all_facts)
    return sum(one.st_size for _, one in all_facts), number


def number_of_all(files: Iterable[tuple[str, int, int | str]]) -> int:
    """63 bits of all files of a slide, each as (name, bytes, version)."""
    return int.from_bytes(hashlib.sha256(repr(sorted(files)).encode()).digest()[:8]) >> 1


def _others(file: Path) -> list[Path]:
    """The files that belong to a slide besides `file`: a folder of that name; of DICOM those of its series."""
    if file.suffix.lower() == MIRAX:
        return [other for other in file.with_suffix("").rglob("*") if other.is_file()]
    near = [other for other in file.parent.iterdir() if other.suffix.lower() == DICOM and other != file]
    own = _series(file) if near else None
    return [] if own is None else [other for other in near if _series(other) == own]


def _series(file: Path) -> str | None:
    facts = os.stat(file)
    return _series_of(file, facts.st_size, facts.st_mtime_ns)


@lru_cache(100_000)  # each slide of a folder asks for all files in it
def _series_of(file: Path, _bytes: int, _modified_ns: int) -> str | None:
    return series_of(file)
