"""What the tags of a TIFF slide say: levels, codec, mpp, and whether every tile's bytes are there.

Only files whose geometry is plain TIFF are described here (Aperio, OME, generic pyramids); scanners' own dialects
(NDPI, Leica, Philips, Ventana, ...) are OpenSlide's business.
"""

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from pathssl.slides.fault import SlideError

JPEG = 7
APERIO_JPEG2000_YCBCR = 33003  # a code stream of YCbCr samples, whose conversion the decoder must know of
APERIO_JPEG2000 = 33005
_RGB, _YCBCR = 2, 6
_ORIENTATION = 274
_CONVERTING_CODECS = (JPEG, APERIO_JPEG2000_YCBCR, 50001)  # 50001 WebP: their decoders give RGB
PLAUSIBLE_MPP = (0.02, 100.0)  # outside of it resolution tags describe a screen or a printer (72 dpi is 353 um)
NOMINAL_TILE_PX = (256, 256)
_MARKERS = {  # JPEG: SOI, EOI; JPEG 2000: SOC, EOC
    JPEG: (b"\xff\xd8", b"\xff\xd9"),
    APERIO_JPEG2000_YCBCR: (b"\xff\x4f", b"\xff\xd9"),
    APERIO_JPEG2000: (b"\xff\x4f", b"\xff\xd9"),
}
_MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "\u00b5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6}


# Where the arrays of tile positions and byte counts lie: the tags of tiled files and of those in strips
_TABLES = {True: (324, 325), False: (273, 279)}
_STRUCT = {"u2": "H", "u4": "I", "u8": "Q"}
_INTEGERS = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}  # TIFF's types of unsigned integers


@dataclass(frozen=True, slots=True)
class TiffLevel:
    """One pyramid level: how its tiles (or strips) are coded, and where the file says where they lie.

    Plain numbers, so that an index can keep them; there are too many tiles to keep these too.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    tiled: bool
    sparse: bool  # some tiles are not stored, and mean white
    compression: int
    predictor: int
    offsets_at: int  # position in the file of the array of tile positions, row by row of tiles
    offsets_type: str  # of its elements, as numpy writes it: "<u4"
    sizes_at: int  # ... and of the array of their lengths in bytes; 0 = the tile is not stored
    sizes_type: str

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile_width)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile_height)

    @property
    def codec(self) -> str:
        return tifffile.COMPRESSION(self.compression).name

    @property
    def markers(self) -> tuple[bytes, bytes] | None:
        """The two bytes that a complete tile begins with and those it ends with; None where its codec has none."""
        return _MARKERS.get(self.compression)

    def tiles_under(self, x: int, y: int, width: int, height: int) -> tuple[range, range]:
        """(rows, columns) of the tiles under a window of level pixels."""
        rows = range(y // self.tile_height, (y + height - 1) // self.tile_height + 1)
        return rows, range(x // self.tile_width, (x + width - 1) // self.tile_width + 1)

    def stored(self, file: int, rows: range, columns: range) -> list[tuple[int, int]]:
        """(position in the file, bytes) of each tile of some rows and columns, row by row, from an open descriptor."""
        offsets = self._table(file, self.offsets_at, self.offsets_type, rows, columns)
        return list(zip(offsets, self._table(file, self.sizes_at, self.sizes_type, rows, columns), strict=True))

    def _table(self, file: int, position: int, kind: str, rows: range, columns: range) -> list[int]:
        """What an array in the file, with an element for each tile of the level, says of some rows and columns."""
        first, count = rows.start * self.columns + columns.start, (len(rows) - 1) * self.columns + len(columns)
        data, words, row_bytes = (
            _bytes(file, position, kind, first, count),
            _words(kind, len(columns)),
            self.columns * int(kind[2]),
        )
        return [number for row in range(len(rows)) for number in struct.unpack_from(words, data, row * row_bytes)]


@dataclass(frozen=True, slots=True)
class TiffLayout:
    levels: tuple[TiffLevel, ...]  # widest first
    mpp_xy: tuple[float, float] | None  # of level 0, as the file states it

    @property
    def sparse(self) -> bool:
        return any(level.sparse for level in self.levels)


def tile_px(layout: TiffLayout) -> list[tuple[int, int]]:
    """(width, height) of the tiles of each level; for levels in strips what tiles usually have."""
    return [(level.tile_width, level.tile_height) if level.tiled else NOMINAL_TILE_PX for level in layout.levels]


def read_layout(path: Path) -> TiffLayout:
    """The layout of the TIFF at `path`; SlideError where it is no TIFF, is cut short, or does not hold 8-bit RGB."""
    size = Path(path).stat().st_size
    if size == 0:
        raise SlideError("the file is empty")
    try:
        with tifffile.TiffFile(path) as file:
            _refuse_broken_chain(file, size)
            pages = _level_pages(file)
            levels = tuple(_level(file, page, size, number) for number, page in enumerate(pages))
            mpp_xy = _mpp_xy(file)
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, ArithmeticError) as error:
        raise SlideError(f"its TIFF structure cannot be read: {error}") from error
    return TiffLayout(levels, mpp_xy)


def decoders(path: Path, file: int) -> list[Callable[[bytes, int], np.ndarray]]:
    """A function for each level: bytes and number of a tile -> its (H, W, 3) uint8. `file`: the descriptor of `path`."""
    with open(path, "rb", opener=lambda *_: os.dup(file)) as handle, tifffile.TiffFile(handle) as tiff:
        return [_decoder(page) for page in _level_pages(tiff)]


def _decoder(page: tifffile.TiffPage) -> Callable[[bytes, int], np.ndarray]:
    decode = page.decode  # made while the file is open: it looks into the first tile
    shared = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    return lambda data, index: decode(data, index, **shared)[0][0]


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
    """Pages that are levels, widest first, by OpenSlide's rules: Aperio's tiled pages; else page 0 and its tiled reductions."""
    if file.is_ome:
        pages = [level.keyframe for level in file.series[0].levels]
    elif file.is_svs:
        pages = [page for page in file.pages if page.is_tiled] or [file.pages[0]]
    else:
        pages = [file.pages[0]] + [page for page in file.pages[1:] if page.is_tiled and page.subfiletype & 1]
    return sorted(pages, key=lambda page: -page.imagewidth)


def _level(file: tifffile.TiffFile, page: tifffile.TiffPage, size: int, number: int) -> TiffLevel:
    if page.samplesperpixel != 3 or page.bitspersample != 8:
        raise SlideError(
            f"its pixels are {page.samplesperpixel} channels of {page.bitspersample} bits; only 8-bit RGB can be read. Convert it: "
            "transparency over white, 16 bits to 8"
        )
    if page.planarconfig != 1 or page.ndim != 3:
        raise SlideError("its colours lie in planes of their own; only RGB pixel by pixel can be read. Convert it")
    if (turned := page.tags.valueof(_ORIENTATION, 1)) != 1:
        raise SlideError(
            f"its orientation tag is {turned}, mirrored or turned; only 1, upright, can be read. Convert it"
        )
    if page.photometric != _RGB and not (page.photometric == _YCBCR and page.compression in _CONVERTING_CODECS):
        raise SlideError(f"its colours are {page.photometric.name}; only RGB can be read")
    if page.is_tiled:
        tile_width, tile_height = page.tilewidth, page.tilelength
    else:
        tile_width, tile_height = page.imagewidth, min(page.rowsperstrip, page.imagelength)
    tiles = -(-page.imagewidth // tile_width) * -(-page.imagelength // tile_height)
    tags = [page.tags[code] for code in _TABLES[page.is_tiled]]
    if min(tag.count for tag in tags) < tiles:
        raise SlideError(f"of level {number} it describes fewer than its {tiles} tiles")
    types = [file.byteorder + _INTEGERS[int(tag.dtype)] for tag in tags]
    descriptor = file.filehandle.fileno()
    offsets, sizes = (
        np.frombuffer(_bytes(descriptor, tag.valueoffset, kind, 0, tiles), kind).astype(np.int64)
        for tag, kind in zip(tags, types, strict=True)
    )
    if short := int((offsets + sizes > size).sum()):
        raise SlideError(
            f"the file is truncated: of level {number}, {short} of {tiles} tiles lie beyond its {size} bytes"
        )
    return TiffLevel(
        width=page.imagewidth,
        height=page.imagelength,
        tile_width=tile_width,
        tile_height=tile_height,
        tiled=bool(page.is_tiled),
        sparse=not sizes.all(),
        compression=int(page.compression),
        predictor=int(page.predictor),
        offsets_at=tags[0].valueoffset,
        offsets_type=types[0],
        sizes_at=tags[1].valueoffset,
        sizes_type=types[1],
    )


def _bytes(file: int, position: int, kind: str, first: int, count: int) -> bytes:
    """`count` integers of type `kind` from element `first` of an array in the file; SlideError where it ends before."""
    size = int(kind[2])
    data = os.pread(file, count * size, position + first * size)
    if len(data) < count * size:
        raise SlideError("the file is truncated: its list of tiles is cut short")
    return data


@cache
def _words(kind: str, count: int) -> str:
    """numpy's name of an integer type in the words of `struct`, `count` times: faster than an array where there are few."""
    return f"{kind[0]}{count}{_STRUCT[kind[1:]]}"


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
