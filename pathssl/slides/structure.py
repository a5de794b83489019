"""What opening a slide finds out about its file, kept so that opening it again needs no look at its tags."""

import math
from dataclasses import dataclass, fields

import numpy as np

from pathssl.slides.layout import TiffLayout, TiffLevel

PLAIN_TIFF = (None, "generic-tiff", "aperio")  # OpenSlide's names of the formats that a `TiffLayout` describes
_COLUMNS = {int: "i8", bool: "?", str: "U3"}
# A level: what `TiffLevel` says (of other formats only the sizes), and level-0 pixels per level pixel
LEVEL = np.dtype([(field.name, _COLUMNS[field.type]) for field in fields(TiffLevel)] + [("downsample", "f8")])


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """Valid as long as the file has the same length and time of modification; of a slide by URL, the same number of its version."""

    vendor: str | None  # OpenSlide's name of the format; None where it knows none
    mpp_xy: tuple[float, float] | None  # of level 0, as the file states it
    levels: np.ndarray  # (levels,) LEVEL, widest first
    file_bytes: int
    modified_ns: int

    def describes(self, file_bytes: int, modified_ns: int) -> bool:
        return (self.file_bytes, self.modified_ns) == (file_bytes, modified_ns)

    def is_like(self, before: "Structure") -> bool:
        """Whether what is found now may be the file that was found before, touched or copied; its mpp where that was known."""
        same_mpp = before.mpp_xy is None or (
            self.mpp_xy is not None and math.isclose(sum(self.mpp_xy), sum(before.mpp_xy), rel_tol=1e-6)
        )
        same_file = (self.vendor, self.file_bytes) == (before.vendor, before.file_bytes)
        return same_mpp and same_file and np.array_equal(self.levels, before.levels)

    @property
    def layout(self) -> TiffLayout | None:
        """Of plain TIFFs."""
        if self.vendor not in PLAIN_TIFF:
            return None
        return TiffLayout(tuple(TiffLevel(*row[:-1]) for row in self.levels.tolist()), self.mpp_xy)


def level_table(layout: TiffLayout | None, sizes: list[tuple[int, int]], tiles: list[tuple[int, int]]) -> np.ndarray:
    """(levels,) LEVEL of a layout; where there is none, of the levels' (width, height) and those of their tiles."""
    levels = np.zeros(len(sizes), LEVEL)
    levels[["width", "height"]], levels[["tile_width", "tile_height"]] = sizes, tiles
    if layout is not None:
        for field in fields(TiffLevel):
            levels[field.name] = [getattr(level, field.name) for level in layout.levels]
    levels["downsample"] = [_downsample(sizes[0], size) for size in sizes]
    return levels


def _downsample(finest: tuple[int, int], size: tuple[int, int]) -> float:
    """Level-0 pixels per level pixel. Levels are made by whole factors and cut to whole pixels, which this undoes."""
    (width, height), (level_width, level_height) = finest, size
    factor = round(width / level_width)
    if abs(width / factor - level_width) < 1 and abs(height / factor - level_height) < 1:
        return factor
    return (width / level_width + height / level_height) / 2
