"""Reads TIFF slides with cuCIM on the CPU, the fastest of the readers where its codecs are the right ones.

Three traps, each guarded here. (1) cuCIM loads its decoders when the first image is opened; if torch was imported
before that and the machine has no NVIDIA driver, the process hangs for ever. (2) It crashes or reads wrongly outside an
allow-list of codecs. (3) Where a tile is damaged it returns grey, black or whatever was in memory, and says nothing: so
the first and last bytes of each tile are looked at, and tifffile decides about a tile that seems damaged.
"""

import ctypes
import importlib.util
import logging
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from pathssl.slides.fault import SlideError
from pathssl.slides.layout import APERIO_JPEG2000, APERIO_JPEG2000_YCBCR, JPEG, TiffLayout
from pathssl.slides.tifffile_reader import TifffileReader

log = logging.getLogger(__name__)

CODECS = frozenset({1, 5, 8, JPEG, 32946, APERIO_JPEG2000_YCBCR, APERIO_JPEG2000})  # 1 none, 5 LZW, 8 and 32946 deflate
PREDICTOR_CODECS = frozenset({5})  # deflate with a predictor ends the process with a segmentation fault (26.10)


def available() -> tuple[bool, str]:
    """(may cuCIM be used in this process, the reason why not or an empty string).

    The first call loads cuCIM with its decoders: call it before torch is imported on machines without an NVIDIA driver.
    """
    asked_before = _load.cache_info().currsize > 0
    if not (asked_before or _decoders_loaded()) and "torch" in sys.modules and not _has_nvidia_driver():
        reason = "torch was imported before cuCIM and there is no NVIDIA driver; loading cuCIM now would hang"
        _log_once(reason)
        return False, reason
    return _load()


@cache
def _load() -> tuple[bool, str]:
    if importlib.util.find_spec("cucim") is None:
        return False, "cuCIM is not installed"
    # Else libcufile drops a cufile.log in the working directory.
    os.environ.setdefault("CUFILE_LOGFILE_PATH", os.devnull)
    try:
        from cucim import CuImage
    except ImportError as error:
        return False, f"cuCIM cannot be imported: {error}"
    with suppress(ValueError):
        CuImage("")  # no file has this name: the attempt only makes cuCIM load its decoders
    return True, ""


@cache
def _log_once(reason: str) -> None:
    log.warning("slides are read with OpenSlide: %s", reason)


def _decoders_loaded() -> bool:
    maps = Path("/proc/self/maps")
    return "cucim" in sys.modules and maps.exists() and "cucim.kit.cuslide" in maps.read_text()


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def refusal(layout: TiffLayout) -> str | None:
    """Why cuCIM must not read this TIFF; None where it may."""
    for level in layout.levels:
        if not level.tiled:
            return "cuCIM reads untiled files slowly and as RGBA"
        if level.compression not in CODECS:
            return f"cuCIM does not decode {level.codec} tiles"
        if level.predictor != 1 and level.compression not in PREDICTOR_CODECS:
            return f"cuCIM crashes on {level.codec} tiles with a predictor"
    if layout.sparse:
        return "cuCIM shows tiles that the file does not store as black"
    return None


class CucimReader:
    """Integer windows of the levels of one TIFF."""

    name = "cucim"

    def __init__(self, path: Path, layout: TiffLayout):
        usable, reason = available()
        if reason := reason if not usable else refusal(layout):
            raise SlideError(reason)
        from cucim import CuImage

        try:
            self._image = CuImage(str(path))
        except (RuntimeError, ValueError) as error:
            raise SlideError(f"cuCIM cannot open it: {error}") from error
        resolutions = self._image.resolutions
        self.sizes = [tuple(size) for size in resolutions["level_dimensions"]]
        self._downsamples = resolutions["level_downsamples"]
        self._tiles = TifffileReader(path, layout)
        self.tile_px = self._tiles.tile_px

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """(height, width, 3) uint8: level pixels from (x, y); the window must lie inside the level."""
        downsample = self._downsamples[level]
        corner = x, y
        if downsample != 1:
            # cuCIM takes floor(position / downsample): the middle of the level pixel is safe from rounding.
            corner = round((x + 0.5) * downsample), round((y + 0.5) * downsample)
        try:
            window = np.asarray(self._image.read_region(corner, (width, height), level))
        except (RuntimeError, ValueError) as error:
            raise SlideError(f"cuCIM cannot decode it: {error}") from error
        if self._tiles.has_markers(level, x, y, width, height):
            return window
        return self._tiles.read(level, x, y, width, height)

    def close(self) -> None:
        self._image.close()
        self._tiles.close()
