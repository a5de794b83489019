"""The slide that loaders are measured on: a pyramid of JPEG tiles, as scanners write them."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import einops
import numpy as np
import tifffile
from PIL import Image

from pathssl.errors import UserError
from pathssl.files import locked
from pathssl.slides.fault import SlideError
from pathssl.slides.foreground import tissue_grid, tissue_mask
from pathssl.slides.slide import Slide, open_slide
from pathssl.slides.synthetic.cases import Cohort
from pathssl.slides.synthetic.layout import regions

log = logging.getLogger(__name__)
MPP = 0.25
REAL_TISSUE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"
_LARGEST_FIELD_UM = 1600.0  # what is taken of a slide, a side
_SEARCH_MPP = 8.0  # a field is searched for at this magnification
_SYNTHETIC_PX = 2048
_CENTIMETRE_UM = 1e4


@dataclass(frozen=True)
class Settings:
    """What decides every byte, but for the tissue."""

    side_px: int = 20480
    mpp: float = MPP
    tile_px: int = 256
    quality: int = 70
    levels: tuple[int, ...] = (1, 4, 16)
    version: int = 1


SETTINGS = Settings()


def benchmark_slide(cache: Path, tissue: Path | None, settings: Settings = SETTINGS) -> tuple[Path, dict]:
    """(the slide under `cache`, made where it is not there yet; what it is, for the record).

    Its tissue comes from the slide `tissue`; where that is None, from the real slide beside the checkout; without one, from the
    synthetic cohort. One field of it, at 0.25 um per pixel, is repeated in mirror images, so that there are no seams.
    """
    if tissue is None and REAL_TISSUE.is_file():
        tissue = REAL_TISSUE
    if tissue is not None and not tissue.is_file():
        raise UserError(f"--tissue {tissue} is not a file: give a slide, or leave it out.")
    source = "synthetic cohort" if tissue is None else tissue.name
    stamp = None if tissue is None else [tissue.stat().st_size, tissue.stat().st_mtime_ns]
    name = hashlib.sha256(json.dumps([asdict(settings), source, stamp]).encode()).hexdigest()[:10]
    path = Path(cache) / f"benchmark-slide-{name}.tif"
    if not path.exists():
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                log.info("Making the benchmark slide %s from the tissue of %s (once, half a minute).", path, source)
                field = _synthetic_field() if tissue is None else _real_field(tissue)
                temporary = path.with_suffix(f".{os.getpid()}.tmp")
                try:
                    _write(temporary, field, settings)
                    os.replace(temporary, path)
                finally:
                    temporary.unlink(missing_ok=True)
    return path, {"source": source, **asdict(settings), **_tile_bytes(path)}


def _tile_bytes(path: Path) -> dict[str, float]:
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        return {"bytes_per_pixel": round(float(np.mean(page.databytecounts)) / (page.tilewidth * page.tilelength), 4)}


def _synthetic_field() -> np.ndarray:
    """(H, W, 3) uint8 at MPP: all tissues of the cohort, in one site's stain, and no glass."""
    cohort = Cohort(
        seed=0, cases=1, sites=1, slide_px=_SYNTHETIC_PX, mpp=MPP, labelled_cases=3, patches_per_class=1,
        patch_px=256, patch_mpp=MPP, nuclei_fields=1,
    )  # fmt: skip
    rng = cohort.rng("benchmark slide", 0)
    plan = regions((_SYNTHETIC_PX, _SYNTHETIC_PX), 210 / MPP, rng, every_px=2)
    return cohort.paint(plan, 0, rng)[0]


def _real_field(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 at MPP: the part of the slide with the most tissue. A coarser slide is enlarged."""
    try:
        slide = open_slide(path, None)
        x0, y0, width, height = _richest_field(slide)
        window = slide.read(x0, y0, slide.mpp, max(width, height))[:height, :width]
        slide.close()
    except SlideError as error:
        raise UserError(f"The benchmark slide cannot be made: {error}") from error
    size = round(width * slide.mpp / MPP), round(height * slide.mpp / MPP)
    return np.asarray(Image.fromarray(window).resize(size, Image.Resampling.LANCZOS))


def _richest_field(slide: Slide) -> tuple[int, int, int, int]:
    """x0, y0, width, height in level-0 pixels of the field with the most tissue."""
    largest = int(_LARGEST_FIELD_UM / slide.mpp)
    width, height = min(slide.width, largest), min(slide.height, largest)
    if (width, height) == (slide.width, slide.height):
        return 0, 0, width, height
    mask = tissue_mask(slide.thumbnail(_SEARCH_MPP), "otsu")
    cell_um = _LARGEST_FIELD_UM / 4
    rows, columns = (max(4, int(side * slide.mpp / cell_um)) for side in (slide.height, slide.width))
    grid = tissue_grid(mask, cell_um / _SEARCH_MPP, rows, columns).astype(np.float64)
    four_by_four = np.lib.stride_tricks.sliding_window_view(grid, (4, 4)).sum((2, 3))
    row, column = np.unravel_index(four_by_four.argmax(), four_by_four.shape)
    cell_px = cell_um / slide.mpp
    return (
        min(int(column * cell_px), slide.width - width),
        min(int(row * cell_px), slide.height - height),
        width,
        height,
    )


def _write(path: Path, field: np.ndarray, settings: Settings) -> None:
    """The pyramid, of which only the coarser levels and one row of tiles are in memory at a time."""
    side, tile = settings.side_px, settings.tile_px
    rows, columns = (_mirrored(length, side) for length in field.shape[:2])
    coarser = np.empty((0, 0, 3), np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number, downsample in enumerate(settings.levels):
            if number == 0:
                strips = (field[rows[y : y + tile]][:, columns] for y in range(0, side, tile))
            elif number == 1:
                block = 64 * downsample
                strips = (_means(field[rows[y : y + block]][:, columns], downsample) for y in range(0, side, block))
                coarser = np.concatenate(list(strips))
                strips = iter(np.split(coarser, range(tile, len(coarser), tile)))
            else:
                coarser = _means(coarser, downsample // settings.levels[number - 1])
                strips = iter(np.split(coarser, range(tile, len(coarser), tile)))
            file.write(
                _tiles(strips, tile),
                shape=(side // downsample, side // downsample, 3),
                dtype=np.uint8,
                tile=(tile, tile),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": settings.quality},
                subfiletype=int(number > 0),
                resolution=(_CENTIMETRE_UM / (settings.mpp * downsample),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
                software="pathssl benchmark slide",
            )


def _tiles(strips: Iterator[np.ndarray], tile_px: int) -> Iterator[np.ndarray]:
    """Tiles row by row; what lies beyond the level is filled with its last row and column."""
    for strip in strips:
        height, width = strip.shape[:2]
        padded = np.pad(strip, ((0, -height % tile_px), (0, -width % tile_px), (0, 0)), "edge")
        for x in range(0, padded.shape[1], tile_px):
            yield np.ascontiguousarray(padded[:, x : x + tile_px])


def _mirrored(length: int, side: int) -> np.ndarray:
    """(side,) indices 0, 1, ... length - 1, length - 1, ... 1, 0, 0, 1, ..."""
    at = np.arange(side) % (2 * length)
    return np.minimum(at, 2 * length - 1 - at)


def _means(picture: np.ndarray, factor: int) -> np.ndarray:
    """(H // factor, W // factor, 3) uint8: rounded means of factor by factor pixels."""
    means = einops.reduce(picture.astype(np.float32), "(h a) (w b) c -> h w c", "mean", a=factor, b=factor)
    return np.rint(means).astype(np.uint8)
