"""Reads plain TIFF slides tile by tile: the bytes with one `pread` each, decoded by imagecodecs through tifffile.

The strict one of the readers: a tile that is cut short is an error here, where decoders fill it with black or grey.
"""

import os
import struct
from pathlib import Path

import numpy as np

from pathssl.slides.fault import SlideError
from pathssl.slides.layout import APERIO_JPEG2000_YCBCR, TiffLayout

_PADDING = b"\0"
_CODEC_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, struct.error)


class TifffileReader:
    """Integer windows of the levels of one TIFF."""

    name = "tifffile"

    def __init__(self, path: Path, layout: TiffLayout):
        self.path = path
        self.levels = layout.levels
        self.sizes = [(level.width, level.height) for level in layout.levels]
        self._decoders = [(level.decode, level.page.jpegtables, level.page.jpegheader) for level in layout.levels]
        self._file = os.open(path, os.O_RDONLY)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """(height, width, 3) uint8: level pixels from (x, y); the window must lie inside the level."""
        stored = self.levels[level]
        window = np.empty((height, width, 3), np.uint8)
        for row, column in stored.tiles(x, y, width, height):
            tile_y, tile_x = row * stored.tile_height, column * stored.tile_width
            top, bottom = max(y, tile_y), min(y + height, tile_y + stored.tile_height)
            left, right = max(x, tile_x), min(x + width, tile_x + stored.tile_width)
            tile = self.tile(level, row * stored.columns + column)
            target = window[top - y : bottom - y, left - x : right - x]
            target[...] = 255 if tile is None else tile[top - tile_y : bottom - tile_y, left - tile_x : right - tile_x]
        return window

    def has_markers(self, level: int, x: int, y: int, width: int, height: int) -> bool:
        """True where all tiles of the window begin and end as their codec demands (or it demands nothing)."""
        stored = self.levels[level]
        if stored.markers is None:
            return True
        start, end = stored.markers
        for row, column in stored.tiles(x, y, width, height):
            index = row * stored.columns + column
            offset, size = int(stored.offsets[index]), int(stored.sizes[index])
            if os.pread(self._file, 2, offset) != start or os.pread(self._file, 2, offset + size - 2) != end:
                return False
        return True

    def tile(self, level: int, index: int) -> np.ndarray | None:
        """(tile_height, tile_width, 3) uint8, or None where a sparse file stores no such tile."""
        stored = self.levels[level]
        size = int(stored.sizes[index])
        if size == 0:
            return None
        data = os.pread(self._file, size, int(stored.offsets[index]))
        if len(data) < size or (stored.markers and not _is_complete(data, *stored.markers)):
            raise SlideError(f"tile {index} of level {level} is damaged or cut short")
        decode, tables, header = self._decoders[level]
        try:
            segment = decode(data, index, jpegtables=tables, jpegheader=header)[0]
        except _CODEC_ERRORS as error:
            raise SlideError(f"tile {index} of level {level} cannot be decoded: {error}") from error
        return _rgb(segment[0]) if stored.compression == APERIO_JPEG2000_YCBCR else segment[0]

    def close(self) -> None:
        os.close(self._file)


def _is_complete(data: bytes, start: bytes, end: bytes) -> bool:
    return data.startswith(start) and (data.endswith(end) or data.rstrip(_PADDING).endswith(end))


def _rgb(ycbcr: np.ndarray) -> np.ndarray:
    """RGB of full-range BT.601 YCbCr, both (H, W, 3) uint8 (JFIF 1.02, page 3)."""
    luma, blue, red = np.moveaxis(ycbcr.astype(np.float32) - (0, 128, 128), -1, 0)
    rgb = np.stack((luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue), axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
