"""A whole-slide image: pixels at any position and magnification, from the fastest reader that is right for the file."""

import math
import os
from pathlib import Path

import numpy as np
from PIL import Image

from pathssl.errors import UserError
from pathssl.slides import cucim_reader, openslide_reader
from pathssl.slides.cucim_reader import CucimReader
from pathssl.slides.fault import SlideError
from pathssl.slides.layout import PLAUSIBLE_MPP, TiffLayout, read_layout
from pathssl.slides.openslide_reader import OpenSlideReader
from pathssl.slides.tifffile_reader import TifffileReader

READERS = ("auto", "cucim", "openslide", "tifffile")
COARSER = 1.05  # a level may be this much coarser than what is asked for: up to 5 % are interpolated, never more
_SAME_SCALE = 1e-4  # 0.02 px over 224: below it nothing is resampled
_WHOLE_PIXEL = 1e-3
_LARGEST_MPP_DIFFERENCE = 0.01  # relative, between x and y
_WINDOW_PX = 4096  # level pixels a side that a thumbnail reads at a time, so that memory stays bounded

Reader = CucimReader | OpenSlideReader | TifffileReader


def open_slide(path: Path, mpp: float | None, reader: str = "auto") -> "Slide":
    """The slide at `path`. `mpp` (um per level-0 pixel) overrides what the file says; SlideError without either."""
    if reader not in READERS:
        raise UserError(f"Unknown slide reader {reader!r}: choose one of {', '.join(READERS)}.")
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise UserError(f"{path}: mpp {mpp} is no length: give the um per pixel of the finest level, or nothing.")
    return Slide(Path(path), mpp, reader)


class Slide:
    """`read` and `thumbnail`, in level-0 coordinates. Survives pickling and forking: a new process opens the file anew.

    width, height: level-0 pixels. mpp: um per level-0 pixel. reader: the name of the reader in use.
    downsamples: level-0 pixels per level pixel, ascending.
    """

    def __init__(self, path: Path, mpp: float | None, reader: str):
        self.path = path
        self._asked_mpp, self._asked_reader = mpp, reader
        self._reader: Reader | None = None
        self._process = None
        self._opened()

    def read(self, x0: int, y0: int, mpp: float, size: int) -> np.ndarray:
        """(size, size, 3) uint8 at exactly `mpp`, its corner at level-0 pixel (x0, y0); white outside the slide.

        It comes from the coarsest level whose mpp is at most 1.05 x `mpp`, resampled once with an antialiasing triangle
        filter. Nothing is resampled where a level has this mpp and (x0, y0) is a whole pixel of it.
        """
        return self._rectangle(x0, y0, mpp, size, size)

    def thumbnail(self, mpp: float) -> np.ndarray:
        """(H, W, 3) uint8: the whole slide at exactly `mpp`; its last row and column may be partly white."""
        _, ratio = self._source(mpp)
        width, height = math.ceil(self.width * self.mpp / mpp), math.ceil(self.height * self.mpp / mpp)
        block = max(1, int(_WINDOW_PX / max(ratio, 1)))
        whole = np.empty((height, width, 3), np.uint8)
        for y in range(0, height, block):
            for x in range(0, width, block):
                rows, columns = min(block, height - y), min(block, width - x)
                part = self._rectangle(x * mpp / self.mpp, y * mpp / self.mpp, mpp, columns, rows)
                whole[y : y + rows, x : x + columns] = part
        return whole

    def close(self) -> None:
        """Gives the file handle back; the next read opens it again."""
        if self._reader is not None and self._process == os.getpid():
            self._reader.close()
        self._reader = None

    def _rectangle(self, x0: float, y0: float, mpp: float, width: int, height: int) -> np.ndarray:
        level, ratio = self._source(mpp)
        x, y = x0 / self.downsamples[level], y0 / self.downsamples[level]
        if ratio == 1 and abs(x - round(x)) < _WHOLE_PIXEL and abs(y - round(y)) < _WHOLE_PIXEL:
            return self._window(level, round(x), round(y), width, height)
        support = max(ratio, 1.0)  # level pixels that the triangle filter reaches beyond the footprint
        left, top = math.floor(x - support), math.floor(y - support)
        right, bottom = math.ceil(x + width * ratio + support), math.ceil(y + height * ratio + support)
        window = Image.fromarray(self._window(level, left, top, right - left, bottom - top))
        box = (x - left, y - top, x - left + width * ratio, y - top + height * ratio)
        return np.array(window.resize((width, height), Image.Resampling.BILINEAR, box=box))

    def _source(self, mpp: float) -> tuple[int, float]:
        """(level to read, its pixels per pixel of `mpp`)."""
        level = coarsest_level(self.downsamples, self.mpp, mpp)
        if level is None:
            raise UserError(
                f"{self.path}: asked for {mpp:g} um per pixel, but its finest level has {self.mpp:g}: "
                f"ask for at least {self.mpp / COARSER:.4g}, or leave the slide out."
            )
        ratio = mpp / (self.mpp * self.downsamples[level])
        return level, 1.0 if abs(ratio - 1) < _SAME_SCALE else ratio

    def _window(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """(height, width, 3) uint8 level pixels, white where the window leaves the level."""
        reader = self._opened()
        level_width, level_height = reader.sizes[level]
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, level_width), min(y + height, level_height)
        if left >= right or top >= bottom:
            return np.full((height, width, 3), 255, np.uint8)
        try:
            inside = reader.read(level, left, top, right - left, bottom - top)
        except SlideError as error:
            self.close()  # OpenSlide's handles stay broken after an error
            with open(self.path, "rb") as file:  # a file that cannot be reached is no bad slide: let OSError say so
                file.read(1)
            raise SlideError(f"{self.path}: {error}") from error
        if right - left == width and bottom - top == height:
            return inside
        window = np.full((height, width, 3), 255, np.uint8)
        window[top - y : bottom - y, left - x : right - x] = inside
        return window

    def _opened(self) -> Reader:
        if self._reader is None or self._process != os.getpid():
            try:
                self._open()
            except SlideError as error:
                raise SlideError(f"{self.path}: {error}") from error
        return self._reader

    def _open(self) -> None:
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} is not there")
        vendor = openslide_reader.vendor_of(self.path)
        layout = read_layout(self.path) if vendor in (None, "generic-tiff", "aperio") else None
        self._reader = _best_reader(self.path, layout, vendor, self._asked_reader)
        self._process = os.getpid()
        self.reader = self._reader.name
        self.width, self.height = self._reader.sizes[0]
        self.downsamples = [_downsample(self._reader.sizes[0], size) for size in self._reader.sizes]
        stated = layout.mpp_xy if layout is not None else self._reader.mpp_xy
        self.mpp = self._asked_mpp if self._asked_mpp is not None else _checked_mpp(stated)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_reader": None, "_process": None}

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, {self.width} x {self.height} px, {self.mpp:g} um/px, reader={self.reader!r})"


def coarsest_level(downsamples: list[float], slide_mpp: float, mpp: float) -> int | None:
    """The coarsest level that is at most 1.05 x coarser than `mpp`; None where even the finest is coarser."""
    fitting = [level for level, downsample in enumerate(downsamples) if slide_mpp * downsample <= COARSER * mpp]
    return fitting[-1] if fitting else None


def _best_reader(path: Path, layout: TiffLayout | None, vendor: str | None, asked: str) -> Reader:
    """The fastest reader that is right for the file, or the one that was asked for; SlideError where none is."""
    if layout is None:
        if asked in ("cucim", "tifffile"):
            raise SlideError(f"{asked} reads plain TIFF slides only, and OpenSlide says that this one is {vendor}")
        return OpenSlideReader(path, None)
    usable, reason = cucim_reader.available() if asked in ("auto", "cucim") else (False, "")
    refusals = {
        "cucim": reason if not usable else cucim_reader.refusal(layout),
        "openslide": openslide_reader.refusal(layout, vendor),
        "tifffile": None,
    }
    sizes = [(level.width, level.height) for level in layout.levels]
    reasons = []
    for name in refusals if asked == "auto" else (asked,):
        if refusals[name] is not None:
            reasons.append(refusals[name])
            continue
        reader = {"cucim": CucimReader, "openslide": OpenSlideReader, "tifffile": TifffileReader}[name](path, layout)
        if reader.sizes == sizes:
            return reader
        reader.close()
        reasons.append(f"{name} sees the levels {reader.sizes}, where the file's tags say {sizes}")
    raise SlideError("; ".join(reasons))


def _downsample(finest: tuple[int, int], size: tuple[int, int]) -> float:
    """Level-0 pixels per level pixel. Levels are made by whole factors and cut to whole pixels, which this undoes."""
    (width, height), (level_width, level_height) = finest, size
    factor = round(width / level_width)
    if abs(width / factor - level_width) < 1 and abs(height / factor - level_height) < 1:
        return factor
    return (width / level_width + height / level_height) / 2


def _checked_mpp(stated: tuple[float, float] | None) -> float:
    if stated is None:
        raise SlideError("it has no mpp; give it in the manifest column mpp")
    x, y = stated
    if not all(PLAUSIBLE_MPP[0] <= value <= PLAUSIBLE_MPP[1] for value in stated):
        raise SlideError(
            f"it states {x:g} x {y:g} um per pixel, which no microscope has; give it in the manifest column mpp"
        )
    if abs(x - y) > _LARGEST_MPP_DIFFERENCE * max(x, y):
        raise SlideError(f"its pixels are not square ({x:g} x {y:g} um); give one value in the manifest column mpp")
    return (x + y) / 2
