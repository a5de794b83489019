"""The local image of one remote slide: what a reader needs is brought before it looks, and holes are never read.

Of plain TIFFs the bytes under a window are brought. Opening one needs all that is no tile, and the first tile of each level, which
tifffile looks at. Other formats are brought whole, with the files that belong to them.
"""

import fcntl
import io
import json
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import tifffile

from pathssl.files import NO_LOCKS, write_atomic
from pathssl.slides.fault import SlideError
from pathssl.slides.layout import TiffLevel
from pathssl.slides.remote.address import joined
from pathssl.slides.remote.blocks import BlockFile
from pathssl.slides.remote.cache import FACTS, OPENING, WHOLE
from pathssl.slides.remote.companions import companions, version_number
from pathssl.slides.remote.facts import Changed, Facts
from pathssl.slides.remote.place import Place
from pathssl.slides.remote.store import Store, store_of

_AHEAD = 64 * 1024  # bytes that a look at a TIFF's directories brings
_LEAST_GAP = 64  # bytes between two tiles: less is padding
_TIFF_SUFFIXES = (".svs", ".tif", ".tiff", ".btf")  # others are brought whole without a look
_NO_TIFF = (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, ArithmeticError)


class Mirror:
    """path: of the local image, for readers; file: its blocks. size, number: of the version of the slide that it holds."""

    def __init__(self, place: Place, size: int | None = None, number: int | None = None):
        """size, number: of the version that is wanted, where it is known; OSError where there is another one now."""
        self.place, self._cache, self._store = place, place.cache, store_of(place.url)
        lock, folder, facts, self._others = _joined(place, self._store, size, number)
        self._unlock = weakref.finalize(self, os.close, lock)  # also where the slide is dropped
        self.size, self.number = facts.size, version_number(facts, self._others)
        self._folder = folder
        self.file = BlockFile(folder / place.name, place.url, facts)
        self._files = [self.file]
        self.path = self.file.path
        self._tiles_only = False
        os.utime(folder / FACTS)  # its last use

    def prepare(self) -> None:
        """Brings what opening the slide takes. SlideError for a format that cannot be read by URL."""
        if self.size == 0:
            raise SlideError("the file is empty")
        with self.reading():
            self._tiles_only = self._bring_opening()
        if not self._tiles_only:
            self.complete()

    def _bring_opening(self) -> bool:
        """False where all of the slide has to be brought."""
        if (ranges := self.opening()) is not None:
            self._bring([(self.file, ranges)])
        elif self._may_be_tiff() and (ranges := self._all_but_tiles()) is not None:
            self._bring([(self.file, ranges)])
            with io.BytesIO() as file:
                np.save(file, np.array(ranges, np.int64))
                write_atomic(self._folder / OPENING, file.getvalue())
        return ranges is not None

    def complete(self) -> None:
        """Brings all of the slide, with the files that belong to it."""
        with self.reading():  # nobody takes pixels just now, and nobody does any more
            (self._folder / WHOLE).touch()
        self._tiles_only = False
        if len(self._files) == 1:
            self._files += self._companions()
        self._bring([(file, [(0, file.facts.size)]) for file in self._files])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, nobody takes pixels away. Whoever looks at blocks, or fetches some, does so inside: a record that was read before pixels
        were taken, and is written after, would name blocks that are gone. Not to be nested: the inner end would be the end of both.
        """
        descriptor = self.file.record_descriptor
        _lock(descriptor, fcntl.LOCK_SH)
        try:
            yield
        finally:
            _lock(descriptor, fcntl.LOCK_UN)

    @contextmanager
    def holding(self, level: TiffLevel | None, x: int, y: int, width: int, height: int) -> Iterator[None]:
        """Inside, a window of a level's pixels can be read: its bytes are here, and nobody takes them away."""
        if not self._tiles_only:
            yield  # a mirror that is whole stays so while it is open
            return
        with self.reading():
            self._bring([(self.file, self.tiles(level, x, y, width, height))])
            yield

    def tiles(self, level: TiffLevel, x: int, y: int, width: int, height: int) -> list[tuple[int, int]]:
        """The ranges of bytes of the tiles under a window."""
        stored = level.stored(self.file.descriptor, *level.tiles_under(x, y, width, height))
        return [(offset, offset + size) for offset, size in stored]

    def refuse_damage(self) -> None:
        """OSError where what is here is not what was fetched: it will be fetched again, and a slide that cannot be read is no bad one."""
        with self.reading():
            sound = [file.sound([(0, file.facts.size)]) for file in self._files]
        if not all(sound):
            raise OSError(f"the local image of {self.place} was damaged ({self.path}); it is fetched again")

    def opening(self) -> list[tuple[int, int]] | None:
        """The ranges of bytes that opening the slide takes; None where these are not known, or are all."""
        if (self._folder / WHOLE).exists() or not (self._folder / OPENING).is_file():
            return None
        return np.load(self._folder / OPENING).tolist()

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._unlock()

    def _bring(self, wanted: Sequence[tuple[BlockFile, Sequence[tuple[int, int]]]]) -> None:
        if fetched := fetch(self._store, wanted):
            os.utime(self._folder / FACTS)
            self._cache.fetched(fetched)
            if left := [file.url for file, ranges in wanted if file.missing(ranges)]:
                raise OSError(f"{left[0]} was fetched, and is not there")

    def _may_be_tiff(self) -> bool:
        return self.path.suffix.lower() in _TIFF_SUFFIXES and not (self._folder / WHOLE).exists()

    def _all_but_tiles(self) -> list[tuple[int, int]] | None:
        """The ranges of bytes that opening the slide takes; None where it is no TIFF."""
        source = _Brought(self)
        try:
            with tifffile.TiffFile(io.BufferedReader(source, _AHEAD), name=self.place.name) as file:
                tiles = sorted(_stored(file))
        except _NO_TIFF:
            return None
        ranges, reached = source.looked_at, 0
        for start, stop in (*tiles, (self.size, self.size)):
            if start - reached >= _LEAST_GAP:
                ranges.append((reached, min(start, self.size)))
            reached = max(reached, min(stop, self.size))
        return ranges

    def _companions(self) -> list[BlockFile]:
        if self.path.suffix.lower() in (".vms", ".vmu"):
            raise SlideError("a VMS slide is several files, which only its own text names: copy it to a disk")
        files = []
        for name, facts in self._others.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            files.append(BlockFile(path, joined(self.place.parent, name), facts))
        return files


def fetch(store: Store, wanted: Sequence[tuple[BlockFile, Sequence[tuple[int, int]]]]) -> int:
    """How many bytes were not there, and are now."""
    holes = [(file, missing) for file, ranges in wanted if (missing := file.missing(ranges))]
    if holes:
        store.fetch(holes)
    return sum(stop - start for _, ranges in holes for start, stop in ranges)


class _Brought(io.RawIOBase):
    """A mirror's main file, to be read from anywhere: what is asked for is brought first. looked_at: the ranges of bytes that were."""

    def __init__(self, mirror: Mirror):
        self._mirror, self._place = mirror, 0
        self.looked_at: list[tuple[int, int]] = []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._mirror.size}[whence] + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        file, start = self._mirror.file, self._place
        stop = min(start + len(buffer), self._mirror.size)
        if start >= stop:
            return 0
        self._mirror._bring([(file, [(start, stop)])])
        self.looked_at.append((start, stop))
        data = os.pread(file.descriptor, stop - start, start)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _stored(file: tifffile.TiffFile) -> Iterator[tuple[int, int]]:
    """The ranges of bytes of the tiles and strips of all directories, but the first of what may be a level."""
    for number, page in enumerate(file.pages):
        for each in (page, *(page.pages if page.subifds else ())):
            stored = zip(each.dataoffsets, each.databytecounts, strict=False)
            for offset, size in islice(stored, int(each.is_tiled or number == 0), None):
                if size:
                    yield offset, offset + size


def _joined(
    place: Place, store: Store, size: int | None, number: int | None
) -> tuple[int, Path, Facts, dict[str, Facts]]:
    """(a lock that keeps the mirror from being removed, its folder, what it is of, the files that belong to it); it is made where it is
    not there yet.
    """
    while True:
        folder = None if size is None else place.cache.mirror_folder(place.url, size, number)
        if folder is None or not (folder / FACTS).is_file():
            (facts,) = store.facts([place.url])
            if isinstance(facts, OSError):
                raise facts
            others = companions(place, store)
            if folder is not None and (facts.size, version_number(facts, others)) != (size, number):
                raise Changed(
                    f"{place} is not what it was when it was indexed ({size} bytes then, {facts.size} now; version {facts.version}): put "
                    "it back, or look at the slides anew with python -m pathssl index"
                )
            folder = place.cache.mirror_folder(place.url, facts.size, version_number(facts, others))
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / FACTS).is_file():
                said = {"url": place.url, "name": place.name, "companions": others, **facts._asdict()}
                with suppress(FileNotFoundError):  # it is being removed
                    _write_once(folder / FACTS, json.dumps(said))
        try:
            lock = os.open(folder / FACTS, os.O_RDONLY)
        except FileNotFoundError:
            continue
        _lock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(folder / FACTS)):
                said = json.loads((folder / FACTS).read_text())
                others = {name: Facts(*each) for name, each in said.get("companions", {}).items()}
                return lock, folder, Facts(said["size"], said["version"]), others
        os.close(lock)  # it was removed meanwhile


def _lock(descriptor: int, how: int) -> None:
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:  # a file system without locks: nobody can take away what is there
        if error.errno not in NO_LOCKS:
            raise


def _write_once(path: Path, text: str) -> None:
    """Writes a file whole, unless it is there: others may hold it as a lock."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".") as file:
        file.write(text)
        file.flush()
        with suppress(FileExistsError):
            os.link(file.name, path)
