"""Reads plain TIFF slides tile by tile: the bytes with one `pread` each, decoded by imagecodecs through tifffile.

The strict one of the readers: a tile that is cut short is an error here, where decoders fill it with black or grey.
"""

import os
import struct
import weakref
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np

from pathssl.slides.fault import SlideError
from pathssl.slides.layout import APERIO_JPEG2000_YCBCR, TiffLayout, decoders, tile_px

_PADDING = b"\0"
_CODEC_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, struct.error)


class TifffileReader:
    """Integer windows of the levels of one TIFF. Little is kept in memory: positions of tiles are read as they are needed."""

    name = "tifffile"

    def __init__(self, path: Path, layout: TiffLayout):
        self.path = path
        self.levels = layout.levels
        self.sizes = [(level.width, level.height) for level in layout.levels]
        self.tile_px = tile_px(layout)
        self._decoders: list[Callable] | None = None
        self._file = os.open(path, os.O_RDONLY)
        self._close = weakref.finalize(self, os.close, self._file)  # also where opening the slide fails later on

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """(height, width, 3) uint8: level pixels from (x, y); the window must lie inside the level."""
        facts = self.levels[level]
        window = np.empty((height, width, 3), np.uint8)
        rows, columns = facts.tiles_under(x, y, width, height)
        for (row, column), stored in zip(product(rows, columns), facts.stored(self._file, rows, columns), strict=True):
            tile_y, tile_x = row * facts.tile_height, column * facts.tile_width
            top, bottom = max(y, tile_y), min(y + height, tile_y + facts.tile_height)
            left, right = max(x, tile_x), min(x + width, tile_x + facts.tile_width)
            tile = self._tile(level, row * facts.columns + column, *stored)
            target = window[top - y : bottom - y, left - x : right - x]
            target[...] = 255 if tile is None else tile[top - tile_y : bottom - tile_y, left - tile_x : right - tile_x]
        return window

    def has_markers(self, level: int, x: int, y: int, width: int, height: int) -> bool:
        """True where all tiles of the window begin and end as their codec demands (or it demands nothing)."""
        facts = self.levels[level]
        if facts.markers is None:
            return True
        start, end = facts.markers
        file, read = self._file, os.pread
        before = None  # the end of the tile before, where the next one should not follow it without a gap
        for offset, size in facts.stored(file, *facts.tiles_under(x, y, width, height)):
            if offset == before:  # one look at the seam of two tiles
                if read(file, 4, offset - 2) != end + start:
                    return False
            elif read(file, 2, offset) != start or (before is not None and read(file, 2, before - 2) != end):
                return False
            before = offset + size
        return before is None or read(file, 2, before - 2) == end

    def _tile(self, level: int, index: int, offset: int, size: int) -> np.ndarray | None:
        """(tile_height, tile_width, 3) uint8, or None where a sparse file stores no such tile."""
        facts = self.levels[level]
        if size == 0:
            return None
        data = os.pread(self._file, size, offset)
        if len(data) < size or (facts.markers and not _is_complete(data, *facts.markers)):
            raise SlideError(f"tile {index} of level {level} is damaged or cut short")
        try:
            if self._decoders is None:
                self._decoders = decoders(self.path, self._file)
            tile = self._decoders[level](data, index)
        except _CODEC_ERRORS as error:
            raise SlideError(f"tile {index} of level {level} cannot be decoded: {error}") from error
        return _rgb(tile) if facts.compression == APERIO_JPEG2000_YCBCR else tile

    def close(self) -> None:
        self._close()


def _is_complete(data: bytes, start: bytes, end: bytes) -> bool:
    return data.startswith(start) and (data.endswith(end) or data.rstrip(_PADDING).endswith(end))


def _rgb(ycbcr: np.ndarray) -> np.ndarray:
    """RGB of full-range BT.601 YCbCr, both (H, W, 3) uint8 (JFIF 1.02, page 3)."""
    luma, blue, red = np.moveaxis(ycbcr.astype(np.float32) - (0, 128, 128), -1, 0)
    rgb = np.stack((luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue), axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
