"""Labelled images from files, in uint8 batches of one size, never more in memory than allowed.

Axes: B images of a batch, N of the set, H and W pixels, C = 3 colours.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pathssl.errors import UserError

_LOOKED_AT = 64  # images whose size is looked up for records


def load_image(path: Path, image_px: int) -> np.ndarray:
    """(image_px, image_px, 3) uint8: the largest centred square of the image, resampled once (bicubic, antialiased)."""
    with _opened(path) as file:
        return squared(file.convert("RGB"), image_px)


def squared(image: Image.Image, image_px: int) -> np.ndarray:
    """(image_px, image_px, 3) uint8 of an RGB image: see `load_image`."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    if side == image_px:  # nothing to resample: whole pixels, whatever the parity of the margin
        return np.asarray(image.crop(tuple(int(edge) for edge in box)))
    return np.asarray(image.resize((image_px, image_px), Image.Resampling.BICUBIC, box=box))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            yield file
    except (UnidentifiedImageError, OSError) as error:  # Pillow's ways to say "not an image" and "truncated"
        raise UserError(f"{path} cannot be decoded ({error}). Mend it, or take its row out of the labels.") from error


def array_batches(images_NHWC: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Batches (B, H, W, 3) of an array that is in memory."""
    for start in range(0, len(images_NHWC), batch_size):
        yield images_NHWC[start : start + batch_size]


def rebatched(pieces: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """The rows of all pieces in batches of `batch_size`, the last one smaller."""
    waiting: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += len(piece)
        if count >= batch_size:
            rows = np.concatenate(waiting)
            whole = count - count % batch_size
            yield from array_batches(rows[:whole], batch_size)
            waiting, count = [rows[whole:]], count - whole
    if count:
        yield np.concatenate(waiting)


def files_hash(paths: Iterable[Path], image_px: int) -> str | None:
    """Of the files' places, sizes and times and of the images' size; None where one of them is not there."""
    digest = hashlib.blake2b(f"{image_px}".encode(), digest_size=16)
    for path in paths:
        if not path.is_file():
            return None
        stat = path.stat()
        digest.update(f"\n{path.absolute()} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


class ImageFiles:
    """The images of one task: decoded by `threads` threads, one batch ahead of the reader.

    Checkpoint after checkpoint sees the same images, so they are kept decoded when they all fit in `cache_mib`; a
    larger set is decoded again each time, with two batches in memory.
    """

    def __init__(self, paths: list[Path], *, image_px: int, threads: int, cache_mib: float):
        self.paths = paths
        self.image_px = image_px
        self.threads = threads
        self.fits = len(paths) * image_px * image_px * 3 <= cache_mib * 2**20
        self._decoded_NHWC: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def describe(self, mpp: float | None) -> dict:
        """How images of `mpp` um per pixel (None: not known) are shown to an encoder: their shorter sides, and what a pixel is then."""
        sides = self._sides()
        seen = None if mpp is None else [round(mpp * side / self.image_px, 4) for side in sides]
        return {"shorter_side_px": sides, "image_px": self.image_px, "mpp": mpp, "seen_mpp": seen}

    def _sides(self) -> list[int]:
        """The smallest and the largest shorter side, of some images evenly over the set."""
        some = np.linspace(0, len(self.paths) - 1, min(_LOOKED_AT, len(self.paths))).round().astype(int)
        sides = []
        for row in some:
            with _opened(self.paths[row]) as file:
                sides.append(min(file.size))
        return [min(sides), max(sides)]

    def hash(self) -> str | None:
        """Of the files' places, sizes and times and of the images' size; None where the images are no files."""
        return files_hash(self.paths, self.image_px)

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """(B, image_px, image_px, 3) uint8, in the order of the paths."""
        if self._decoded_NHWC is not None:
            yield from array_batches(self._decoded_NHWC, batch_size)
            return
        kept = np.empty((len(self), self.image_px, self.image_px, 3), np.uint8) if self.fits else None
        end = 0
        for batch_BHWC in self._decode(np.arange(len(self)), batch_size):
            start, end = end, end + len(batch_BHWC)
            if kept is not None:
                kept[start:end] = batch_BHWC
            yield batch_BHWC
        self._decoded_NHWC = kept

    def some(self, rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        """The images of these numbers, ascending, in batches."""
        if self._decoded_NHWC is not None:
            return array_batches(self._decoded_NHWC[rows], batch_size)
        return self._decode(rows, batch_size)

    def _decode(self, rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        pool = ThreadPoolExecutor(self.threads)
        ahead: deque = deque()
        try:
            for sources in self._sources(rows, batch_size):
                ahead.append([pool.submit(self._load, source) for source in sources])
                if len(ahead) == 2:
                    yield np.stack([image.result() for image in ahead.popleft()])
            while ahead:
                yield np.stack([image.result() for image in ahead.popleft()])
        finally:  # also where one image fails or the reader leaves early
            pool.shutdown(cancel_futures=True)

    def _sources(self, rows: np.ndarray, batch_size: int) -> Iterator[Sequence]:
        """What `_load` makes the images of these numbers from, batch by batch."""
        for start in range(0, len(rows), batch_size):
            yield [self.paths[row] for row in rows[start : start + batch_size]]

    def _load(self, source: Path) -> np.ndarray:
        """(image_px, image_px, 3) uint8, in one of the threads."""
        return load_image(source, self.image_px)
