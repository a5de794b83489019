"""Images of any size as crops of one size, streamed, and arrays that lie on disk where they would fill memory.

Axes: B crops of a batch, M crops of the set; H, W pixels of an image, P = crop_px, C colours.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from einops import rearrange
from PIL import Image, UnidentifiedImageError

from pathssl.errors import UserError
from pathssl.probes.images import array_batches, rebatched

WHITE = 255  # beyond the image, as beyond a slide


def crops_of(size_HW: tuple[int, int], crop_px: int) -> int:
    """How many crops an image is cut into: a grid from its top left corner, the last row and column padded."""
    return -(-size_HW[0] // crop_px) * -(-size_HW[1] // crop_px)


def cut(image: np.ndarray, crop_px: int, fill: int) -> np.ndarray:
    """(crops, P, P, ...) of an (H, W, ...) image, row by row; what lies beyond it is `fill`."""
    padding = [(0, -size % crop_px) for size in image.shape[:2]] + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, padding, constant_values=fill)
    return rearrange(padded, "(rows h) (columns w) ... -> (rows columns) h w ...", h=crop_px, w=crop_px)


def resampled(crops: np.ndarray, image_px: int, how: Image.Resampling) -> np.ndarray:
    """(crops, image_px, image_px, ...) uint8 of crops (crops, P, P, ...); the same where P is that already."""
    if crops.shape[1] == image_px:
        return crops
    return np.stack([np.asarray(Image.fromarray(crop).resize((image_px, image_px), how)) for crop in crops])


def load_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise UserError(f"{path} cannot be decoded ({error}). Mend it, or take its row out of the table.") from error


def room(shape: Sequence[int], dtype: type, cache_mib: float) -> np.ndarray:
    """An array to be filled: in memory if it takes at most `cache_mib`, else in a file without a name, which goes with the array."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= cache_mib * 2**20:
        return np.empty(shape, dtype)
    with TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=tuple(shape))


class CropFiles:
    """The crops of one task's images, in their order: decoded by `threads` threads, a few images ahead of the reader.

    They are `crop_px` wide in the images, and resampled (bicubic, antialiased) to `image_px`. They are kept decoded when they all fit in
    `cache_mib`; a larger set is decoded again for each checkpoint.
    """

    def __init__(self, paths: list[Path], *, crops: int, crop_px: int, image_px: int, threads: int, cache_mib: float):
        self.paths = paths
        self.crop_px, self.shape = crop_px, (crops, image_px, image_px, 3)
        self.threads = threads
        self.fits = int(np.prod(self.shape)) <= cache_mib * 2**20
        self._decoded_MPPC: np.ndarray | None = None

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """(B, P, P, 3) uint8."""
        if self._decoded_MPPC is not None:
            yield from array_batches(self._decoded_MPPC, batch_size)
            return
        kept = np.empty(self.shape, np.uint8) if self.fits else None
        end = 0
        for batch_BPPC in rebatched(self._crops(), batch_size):
            start, end = end, end + len(batch_BPPC)
            if kept is not None:
                kept[start:end] = batch_BPPC
            yield batch_BPPC
        self._decoded_MPPC = kept

    def _crops(self) -> Iterator[np.ndarray]:
        return in_threads(self._crops_of, self.paths, self.threads)

    def _crops_of(self, path: Path) -> np.ndarray:
        return resampled(cut(load_picture(path), self.crop_px, WHITE), self.shape[1], Image.Resampling.BICUBIC)


def in_threads(load: Callable[[Path], object], paths: Sequence[Path], threads: int) -> Iterator:
    """What `load` gives for each path, in order, by `threads` threads with as many results ahead."""
    pool = ThreadPoolExecutor(threads)
    ahead: deque = deque()
    try:
        for path in paths:
            ahead.append(pool.submit(load, path))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:  # also where one fails or the reader leaves early
        pool.shutdown(cancel_futures=True)
