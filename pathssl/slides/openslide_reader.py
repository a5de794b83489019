"""Reads any format that OpenSlide knows.

OpenSlide places a window by a whole number of level-0 pixels and composites tiles with sub-pixel shifts. Where a
level's downsample is no integer (2967 -> 1483 rows: 2.0003) most level pixels cannot be asked for exactly, and come
back blurred. Such levels of plain TIFFs are therefore decoded by tifffile, so that all readers give the same pixels.
"""

from pathlib import Path

import numpy as np
import openslide

from pathssl.slides.fault import SlideError
from pathssl.slides.layout import JPEG, NOMINAL_TILE_PX, TiffLayout, tile_px
from pathssl.slides.tifffile_reader import TifffileReader

TIFF_CODECS = frozenset({1, 5, 8, JPEG, 32773, 32946, 33003, 33005, 50000})  # none, LZW, deflate, PackBits, ..., ZSTD
APERIO_ONLY_CODECS = frozenset({33003, 33005})
_LARGEST_SHIFT = 1 / 512  # level pixels; cairo rounds positions to 1/256 and copies pixels where nothing remains


class OpenSlideReader:
    """Integer windows of the levels of one slide."""

    name = "openslide"

    def __init__(self, path: Path, layout: TiffLayout | None):
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise SlideError(f"OpenSlide cannot open it: {error}") from error
        self.sizes = list(self._slide.level_dimensions)
        self._downsamples = self._slide.level_downsamples
        self.tile_px = tile_px(layout) if layout is not None else [self._tile(i) for i in range(len(self.sizes))]
        self._tiles = None
        self._shifted = [False] * len(self.sizes)
        if layout is not None:
            self._shifted = [self._largest_shift(level) >= _LARGEST_SHIFT for level in range(len(self.sizes))]
            if any(self._shifted):
                self._tiles = TifffileReader(path, layout)

    def _tile(self, level: int) -> tuple[int, int]:
        names = (f"openslide.level[{level}].tile-{side}" for side in ("width", "height"))
        stated = [self._slide.properties.get(name) for name in names]
        return NOMINAL_TILE_PX if None in stated else (int(stated[0]), int(stated[1]))

    def _largest_shift(self, level: int) -> float:
        """Level pixels between the furthest level pixel and the position that OpenSlide can be asked for."""
        downsample = self._downsamples[level]
        return max(self.sizes[level]) * abs(round(downsample) / downsample - 1)

    @property
    def mpp_xy(self) -> tuple[float, float] | None:
        """What the file states, for formats without a `TiffLayout`."""
        properties = self._slide.properties
        names = openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y
        if not all(name in properties for name in names):
            return None
        return float(properties[names[0]]), float(properties[names[1]])

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """(height, width, 3) uint8: level pixels from (x, y); the window must lie inside the level."""
        if self._shifted[level]:
            return self._tiles.read(level, x, y, width, height)
        downsample = self._downsamples[level]
        corner = round(x * downsample), round(y * downsample)
        try:
            window = np.asarray(self._slide.read_region(corner, level, (width, height)))
        except openslide.OpenSlideError as error:
            raise SlideError(f"OpenSlide cannot decode it: {error}") from error
        return _over_white(window)

    def close(self) -> None:
        self._slide.close()
        if self._tiles is not None:
            self._tiles.close()


def refusal(layout: TiffLayout, vendor: str | None) -> str | None:
    """Why OpenSlide must not read this TIFF; None where it may."""
    if vendor is None:
        return "OpenSlide does not know the format"
    codecs = TIFF_CODECS if vendor == "aperio" else TIFF_CODECS - APERIO_ONLY_CODECS
    for level in layout.levels:
        if level.compression not in codecs:
            return f"OpenSlide does not decode {level.codec} tiles in {vendor} files"
    return None


def vendor_of(path: Path) -> str | None:
    """OpenSlide's name of the format ("aperio", "generic-tiff", "dicom", ...); None where it does not know the file."""
    try:
        return openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError as error:
        raise SlideError(f"OpenSlide cannot open it: {error}") from error


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: what is transparent (outside of scanned areas) becomes white."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    weighted = rgba[..., :3].astype(np.uint16) * alpha + (255 - alpha).astype(np.uint16) * 255
    return ((weighted + 127) // 255).astype(np.uint8)
