"""A whole-slide image: pixels at any position and magnification, from the fastest reader that is right for the file."""

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathssl.errors import UserError
from pathssl.slides import cucim_reader, openslide_reader
from pathssl.slides.cucim_reader import CucimReader
from pathssl.slides.fault import SlideError
from pathssl.slides.footprint import box, fill, footprint
from pathssl.slides.layout import PLAUSIBLE_MPP, TiffLayout, read_layout
from pathssl.slides.openslide_reader import OpenSlideReader
from pathssl.slides.parts import local_version
from pathssl.slides.remote.facts import Changed
from pathssl.slides.remote.place import Place
from pathssl.slides.structure import PLAIN_TIFF, Structure, level_table
from pathssl.slides.tifffile_reader import TifffileReader

if TYPE_CHECKING:
    from pathssl.slides.remote.mirror import Mirror

READERS = ("auto", "cucim", "openslide", "tifffile")
COARSER = 1.05  # a level may be this much coarser than what is asked for: up to 5 % are interpolated, never more
SAME_SCALE = 1e-4  # 0.02 px over 224: below it nothing is resampled
_LARGEST_MPP_DIFFERENCE = 0.01  # relative, between x and y
_WINDOW_PX = 4096  # level pixels a side that a thumbnail reads at a time, so that memory stays bounded

Reader = CucimReader | OpenSlideReader | TifffileReader


def open_slide(
    path: Path | Place, mpp: float | None, reader: str = "auto", structure: Structure | None = None
) -> "Slide":
    """The slide at `path`. `mpp` (um per level-0 pixel) overrides what the file says; SlideError without either.

    structure: what was found when it was opened before; saves time. OSError where another slide has taken its place since; a file that was
    only touched or copied is opened. (A slide by URL must be the very version.)
    """
    if reader not in READERS:
        raise UserError(f"Unknown slide reader {reader!r}: choose one of {', '.join(READERS)}.")
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise UserError(f"{path}: mpp {mpp} is no length: give the um per pixel of the finest level, or nothing.")
    return Slide(path if isinstance(path, Place) else Path(path), mpp, reader, structure)


class Slide:
    """`read` and `thumbnail`, in level-0 coordinates. Survives pickling and forking: a new process opens the file anew.

    width, height: level-0 pixels. mpp: um per level-0 pixel. reader: the name of the reader in use.
    downsamples: level-0 pixels per level pixel, ascending. tile_px: (width, height) of each level's tiles, in level
    pixels; nominal where a level has none.
    """

    def __init__(self, path: Path | Place, mpp: float | None, reader: str, structure: Structure | None = None):
        self.path = path
        self._asked_mpp, self._asked_reader = mpp, reader
        self.structure = structure
        self._reader: Reader | None = None
        self._mirror: Mirror | None = None  # of a slide by URL
        self._process = None
        self._opened()

    def read(self, x0: int, y0: int, mpp: float, size: int) -> np.ndarray:
        """(size, size, 3) uint8 at exactly `mpp`, its corner at level-0 pixel (x0, y0); white outside the slide.

        It comes from the coarsest level whose mpp is at most 1.05 x `mpp`, resampled once with an antialiasing triangle
        filter. Nothing is resampled where a level has this mpp and (x0, y0) is a whole pixel of it.
        """
        return self._rectangle(x0, y0, mpp, size, size)

    def read_patches(self, x0: Sequence[int], y0: Sequence[int], mpp: float, out: Sequence[np.ndarray]) -> None:
        """Fills `out`, n arrays of (size, size, 3) uint8, with what `read` gives at the n corners, to the byte.

        The reader is asked once, for the bounding box, so that no tile is decoded twice; patch by patch where they lie
        too far apart for that.
        """
        level, ratio = self._source(mpp)
        height, width = out[0].shape[:2]
        footprints = [
            footprint(self.downsamples[level], ratio, x, y, width, height)
            for x, y in zip(map(int, x0), map(int, y0), strict=True)
        ]
        if (whole := box(footprints)) is not None:
            window = self._window(level, *whole)
            for patch, each in zip(out, footprints, strict=True):
                fill(patch, window, whole[0], whole[1], each, ratio)
        else:
            for patch, each in zip(out, footprints, strict=True):
                fill(patch, self._window(level, *each[:4]), each.left, each.top, each, ratio)

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
        for part in (self._reader, self._mirror):
            if part is not None and self._process == os.getpid():
                part.close()
        self._reader = self._mirror = None

    def _rectangle(self, x0: float, y0: float, mpp: float, width: int, height: int) -> np.ndarray:
        level, ratio = self._source(mpp)
        place = footprint(self.downsamples[level], ratio, x0, y0, width, height)
        window = self._window(level, *place[:4])
        if place.shift is None:
            return window
        pixels = np.empty((height, width, 3), np.uint8)
        fill(pixels, window, place.left, place.top, place, ratio)
        return pixels

    def _source(self, mpp: float) -> tuple[int, float]:
        """(level to read, its pixels per pixel of `mpp`)."""
        level = coarsest_level(self.downsamples, self.mpp, mpp)
        if level is None:
            raise UserError(
                f"{self.path}: asked for {mpp:g} um per pixel, but its finest level has {self.mpp:g}: "
                f"ask for at least {self.mpp / COARSER:.4g}, or leave the slide out."
            )
        ratio = mpp / (self.mpp * self.downsamples[level])
        return level, 1.0 if abs(ratio - 1) < SAME_SCALE else ratio

    def _window(self, level: int, x: int, y: int, x_end: int, y_end: int) -> np.ndarray:
        """(y_end - y, x_end - x, 3) uint8 level pixels, white where the window leaves the level."""
        reader = self._opened()
        level_width, level_height = reader.sizes[level]
        left, top, right, bottom = max(x, 0), max(y, 0), min(x_end, level_width), min(y_end, level_height)
        if left >= right or top >= bottom:
            return np.full((y_end - y, x_end - x, 3), 255, np.uint8)
        window = left, top, right - left, bottom - top
        try:
            with self._here(level, *window):
                inside = reader.read(level, *window)
        except SlideError as error:
            self._refuse_passing_fault()
            raise SlideError(f"{self.path}: {error}") from error
        if (left, top, right, bottom) == (x, y, x_end, y_end):
            return inside
        window = np.full((y_end - y, x_end - x, 3), 255, np.uint8)
        window[top - y : bottom - y, left - x : right - x] = inside
        return window

    def _opened(self) -> Reader:
        if self._reader is None or self._process != os.getpid():
            try:
                self._open()
            except SlideError as error:
                self._refuse_passing_fault()
                raise SlideError(f"{self.path}: {error}") from error
            except OSError:
                self.close()
                raise
        return self._reader

    def _open(self) -> None:
        self._process, self._reader = os.getpid(), None
        path, file_bytes, modified_ns = self._file()
        before = self.structure
        is_known = before is not None and before.describes(file_bytes, modified_ns)
        if self._mirror is not None:
            self._mirror.prepare()
        if is_known:
            vendor, layout = before.vendor, before.layout
        else:
            vendor = openslide_reader.vendor_of(path)
            layout = read_layout(path) if vendor in PLAIN_TIFF else None
        if self._mirror is not None and layout is None:
            self._mirror.complete()
        self._layout = layout
        self._reader = reader = _best_reader(path, layout, vendor, self._asked_reader)
        self.reader = reader.name
        if is_known and layout is not None:  # its tags were not looked at
            found = before
        else:
            stated = layout.mpp_xy if layout is not None else reader.mpp_xy
            levels = level_table(layout, reader.sizes, reader.tile_px)
            found = Structure(vendor, stated, levels, file_bytes, modified_ns)
            if before is not None and not found.is_like(before):
                raise Changed(
                    f"{self.path} has changed since it was indexed: put back what was there, or look at the slides anew with python -m "
                    "pathssl index"
                )
        self.structure = found
        self.width, self.height = reader.sizes[0]
        self.downsamples = found.levels["downsample"].tolist()
        self.tile_px = reader.tile_px
        self.mpp = self._asked_mpp if self._asked_mpp is not None else _checked_mpp(found.mpp_xy)

    def _file(self) -> tuple[Path, int, int]:
        """(the file to read, its length, when it was modified: for a slide by URL the number of its version)."""
        if isinstance(self.path, Place):
            from pathssl.slides.remote.mirror import Mirror  # here: what talks to servers takes a while to import

            known = self.structure
            self._mirror = Mirror(self.path, *(() if known is None else (known.file_bytes, known.modified_ns)))
            return self._mirror.path, self._mirror.size, self._mirror.number
        return self.path, *local_version(self.path)

    def _here(self, level: int, x: int, y: int, width: int, height: int) -> AbstractContextManager:
        """Inside, the bytes under a window are on this machine."""
        if self._mirror is None:
            return nullcontext()
        return self._mirror.holding(None if self._layout is None else self._layout.levels[level], x, y, width, height)

    def _refuse_passing_fault(self) -> None:
        """OSError where the file cannot be reached, or its local image is damaged: then it is no bad slide."""
        try:
            if self._mirror is not None:
                self._mirror.refuse_damage()
            elif not isinstance(self.path, Place):
                with open(self.path, "rb") as file:
                    file.read(1)
        finally:
            self.close()  # OpenSlide's handles stay broken after an error

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_reader": None, "_mirror": None, "_process": None}

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
