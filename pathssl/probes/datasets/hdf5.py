"""Labelled images in HDF5 files, streamed.

Axes: N images; H, W pixels, C = 3 colours.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from pathssl.errors import UserError
from pathssl.probes.cache import key_of
from pathssl.probes.images import ImageFiles, files_hash, rebatched, squared

_ROWS = 64  # that are read at a time, at least
_MOST_ROWS = 4096  # and at most, however many a chunk has


class HDF5Images(ImageFiles):
    """Image n of a task is `row_N[n]` of the (rows, H, W, 3) uint8 array `dataset` of file `files[file_N[n]]`; both in ascending order.

    Files whose images are compressed in chunks are read chunk by chunk, each once.
    """

    def __init__(self, files: Sequence[Path], file_N: np.ndarray, row_N: np.ndarray, *, dataset: str, **settings):
        super().__init__(row_N, **settings)  # as many as there are images
        self.files, self.file_N, self.row_N, self.dataset = files, file_N, row_N, dataset

    def hash(self) -> str | None:
        files = files_hash(self.files, self.image_px)
        return files and key_of(files, self.dataset, self.file_N.tobytes(), self.row_N.tobytes())

    def _sides(self) -> list[int]:
        sides = []
        for path in self.files:
            with opened(path) as file:
                sides.append(min(file[self.dataset].shape[1:3]))
        return [min(sides), max(sides)]

    def _sources(self, rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        return rebatched(self._read(rows), batch_size)

    def _load(self, source: np.ndarray) -> np.ndarray:
        return squared(Image.fromarray(source), self.image_px)

    def _read(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The images of these numbers, ascending, as they lie in the files: some at a time."""
        for k in np.unique(self.file_N[rows]):
            in_file = self.row_N[rows[self.file_N[rows] == k]]
            with opened(self.files[k]) as file:
                images = file[self.dataset]
                block = _block(images)
                for part in np.split(in_file, np.flatnonzero(np.diff(in_file // block)) + 1):
                    try:
                        yield images[part[0] : part[-1] + 1][part - part[0]]
                    except OSError as error:  # HDF5's way to say that a chunk cannot be unpacked
                        raise UserError(
                            f"{self.files[k]} cannot be read at images {part[0]} to {part[-1]} ({error})."
                        ) from error


def _block(images: h5py.Dataset) -> int:
    """How many rows are read at a time: whole chunks, unless these are huge."""
    chunk = 1 if images.chunks is None else images.chunks[0]
    return min(-(-_ROWS // chunk) * chunk, _MOST_ROWS)


def opened(path: Path) -> h5py.File:
    """The file, for reading; UserError where it is none of HDF5's, or is cut off."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} cannot be read as HDF5 ({error}). Fetch or unpack it again.") from error


def array_of(path: Path, dataset: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """All of an array; `shape` (None: any length) is what it must have."""
    with opened(path) as file:
        return checked(path, file, dataset, shape)[()]


def length_of(path: Path, dataset: str, shape: tuple[int | None, ...]) -> int:
    """How many rows an array has that must be uint8 of `shape`."""
    with opened(path) as file:
        return len(checked(path, file, dataset, shape))


def checked(path: Path, file: h5py.File, dataset: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """The array of that name; UserError where it is not there or is not uint8 of `shape`."""
    found = file.get(dataset)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{path} has no array {dataset!r} (it has {', '.join(file) or 'nothing'}). Fetch it again.")
    fits = len(found.shape) == len(shape) and all(b is None or a == b for a, b in zip(found.shape, shape, strict=True))
    if not fits or found.dtype != np.uint8:
        wanted = " x ".join("N" if side is None else str(side) for side in shape)
        raise UserError(
            f"{path}: {dataset!r} is {found.dtype} of shape {found.shape}; uint8 of {wanted} was expected. Fetch it again."
        )
    return found
