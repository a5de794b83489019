"""What the tags of a TIFF slide say: levels, codec, mpp, and whether every tile's bytes are there.

Only files whose geometry is plain TIFF are described here (Aperio, OME, generic pyramids); scanners' own dialects
(NDPI, Leica, Philips, Ventana, ...) are OpenSlide's business.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from pathssl.slides.fault import SlideError

JPEG = 7
APERIO_JPEG2000_YCBCR = 33003  # a code stream of YCbCr samples, whose conversion the decoder must know of
APERIO_JPEG2000 = 33005
_RGB, _YCBCR = 2, 6
_CONVERTING_CODECS = (JPEG, APERIO_JPEG2000_YCBCR, 50001)  # 50001 WebP: their decoders give RGB
PLAUSIBLE_MPP = (0.02, 100.0)  # outside of it resolution tags describe a screen or a printer (72 dpi is 353 um)
_MARKERS = {  # JPEG: SOI, EOI; JPEG 2000: SOC, EOC
    JPEG: (b"\xff\xd8", b"\xff\xd9"),
    APERIO_JPEG2000_YCBCR: (b"\xff\x4f", b"\xff\xd9"),
    APERIO_JPEG2000: (b"\xff\x4f", b"\xff\xd9"),
}
_MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "\u00b5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6}


@dataclass(frozen=True)
class TiffLevel:
    """One pyramid level: where its tiles (or strips) lie in the file and how they are coded."""

    page: tifffile.TiffPage
    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: np.ndarray  # (tiles,) int64, row by row
    sizes: np.ndarray  # (tiles,) int64 bytes; 0 = the tile is not stored (a sparse file), and means white
    decode: Callable  # tifffile's decoder of one tile's bytes

    @property
    def compression(self) -> int:
        return int(self.page.compression)

    @property
    def predictor(self) -> int:
        return int(self.page.predictor)

    @property
    def tiled(self) -> bool:
        return bool(self.page.is_tiled)

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile_width)

    def tiles(self, x: int, y: int, width: int, height: int) -> Iterator[tuple[int, int]]:
        """(row, column) of each tile under a window of level pixels."""
        rows = range(y // self.tile_height, (y + height - 1) // self.tile_height + 1)
        return product(rows, range(x // self.tile_width, (x + width - 1) // self.tile_width + 1))

    @property
    def markers(self) -> tuple[bytes, bytes] | None:
        """The two bytes that a complete tile begins with and those it ends with; None where its codec has none."""
        return _MARKERS.get(self.compression)


@dataclass(frozen=True)
class TiffLayout:
    levels: tuple[TiffLevel, ...]  # widest first
    mpp_xy: tuple[float, float] | None  # of level 0, as the file states it

    @property
    def sparse(self) -> bool:
        return any(not level.sizes.all() for level in self.levels)


def read_layout(path: Path) -> TiffLayout:
    """The layout of the TIFF at `path`; SlideError where it is no TIFF, is cut short, or does not hold 8-bit RGB."""
    size = Path(path).stat().st_size
    if size == 0:
        raise SlideError("the file is empty")
    try:
        with tifffile.TiffFile(path) as file:
            _refuse_broken_chain(file, size)
            pages = _level_pages(file)
            levels = tuple(sorted((_level(page) for page in pages), key=lambda level: -level.width))
            mpp_xy = _mpp_xy(file)
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, ArithmeticError) as error:
        raise SlideError(f"its TIFF structure cannot be read: {error}") from error
    for number, level in enumerate(levels):
        ends = level.offsets + level.sizes
        if ends.max(initial=0) > size:
            short = int((ends > size).sum())
            raise SlideError(
                f"the file is truncated: of level {number}, {short} of {len(ends)} tiles lie beyond its {size} bytes"
            )
    return TiffLayout(levels, mpp_xy)


def _refuse_broken_chain(file: tifffile.TiffFile, size: int) -> None:
    """A truncated file often keeps its first directories: the last one then points beyond the end."""
    last = file.pages[-1]
    tiff, handle = file.tiff, file.filehandle
    handle.seek(last.offset)
    count = int.from_bytes(handle.read(tiff.tagnosize), _byteorder(file))
    handle.seek(last.offset + tiff.tagnosize + count * tiff.tagsize)
    pointer = handle.read(tiff.offsetsize)
    following = int.from_bytes(pointer, _byteorder(file))
    if len(pointer) < tiff.offsetsize or following >= size:
        raise SlideError(f"the file is truncated: directory {len(file.pages)} would start beyond its {size} bytes")


def _byteorder(file: tifffile.TiffFile) -> str:
    return "little" if file.byteorder == "<" else "big"


def _level_pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Pages that are levels, by OpenSlide's rules: Aperio's tiled pages; else page 0 and its tiled reductions."""
    if file.is_ome:
        return [level.keyframe for level in file.series[0].levels]
    if file.is_svs:
        return [page for page in file.pages if page.is_tiled] or [file.pages[0]]
    return [file.pages[0]] + [page for page in file.pages[1:] if page.is_tiled and page.subfiletype & 1]


def _level(page: tifffile.TiffPage) -> TiffLevel:
    if page.samplesperpixel != 3 or page.bitspersample != 8 or page.planarconfig != 1 or page.ndim != 3:
        raise SlideError(
            f"its pixels are {page.samplesperpixel} channels of {page.bitspersample} bits; only 8-bit RGB can be read"
        )
    if page.photometric != _RGB and not (page.photometric == _YCBCR and page.compression in _CONVERTING_CODECS):
        raise SlideError(f"its colours are {page.photometric.name}; only RGB can be read")
    if page.is_tiled:
        tile_width, tile_height = page.tilewidth, page.tilelength
    else:
        tile_width, tile_height = page.imagewidth, min(page.rowsperstrip, page.imagelength)
    return TiffLevel(
        page=page,
        width=page.imagewidth,
        height=page.imagelength,
        tile_width=tile_width,
        tile_height=tile_height,
        offsets=np.asarray(page.dataoffsets, np.int64),
        sizes=np.asarray(page.databytecounts, np.int64),
        decode=page.decode,  # made while the file is open: it looks into the first tile
    )


def _mpp_xy(file: tifffile.TiffFile) -> tuple[float, float] | None:
    page = file.pages[0]
    if file.is_svs:
        stated = re.search(r"\bMPP\s*=\s*([0-9.eE+-]+)", page.description)
        return (float(stated[1]), float(stated[1])) if stated else None
    if file.is_ome and (stated := _ome_mpp_xy(file.ome_metadata)):
        return stated
    unit_um = {2: 25400.0, 3: 10000.0}.get(int(page.resolutionunit))
    x, y = page.resolution
    return (unit_um / x, unit_um / y) if unit_um and x > 0 and y > 0 else None


def _ome_mpp_xy(metadata: str) -> tuple[float, float] | None:
    pixels = ElementTree.fromstring(metadata).find(".//{*}Image/{*}Pixels")
    if pixels is None or "PhysicalSizeX" not in pixels.attrib or "PhysicalSizeY" not in pixels.attrib:
        return None
    units = [_MICROMETRES.get(pixels.attrib.get(f"PhysicalSize{axis}Unit", "um")) for axis in "XY"]
    if None in units:
        return None
    return float(pixels.attrib["PhysicalSizeX"]) * units[0], float(pixels.attrib["PhysicalSizeY"]) * units[1]
