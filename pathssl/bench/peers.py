"""Other ways to get patches out of a slide. Each factory gives `read(x0, y0)`: it reads the patches with these corners (level-0
pixels, of a slide at the magnification that is asked for, so that no peer resamples) one after another, and returns the last one.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import tifffile

from pathssl.slides import cucim_reader
from pathssl.slides.slide import open_slide

Read = Callable[[Sequence[int], Sequence[int]], np.ndarray]
# What a peer that does not work here raises. OpenSlide's errors have no other base than Exception.
FAULTS = (ImportError, OSError, RuntimeError, ValueError, openslide.OpenSlideError)


def cucim(path: Path, size: int) -> Read:
    """cuCIM with one open handle: what a loop over its read_region gives."""
    image = _cu_image()(str(path))

    def read(x0: Sequence[int], y0: Sequence[int]) -> np.ndarray:
        for x, y in zip(x0, y0, strict=True):
            patch = np.asarray(image.read_region((x, y), (size, size), 0))
        return patch

    return read


def cucim_reopened(path: Path, size: int) -> Read:
    """cuCIM with a new handle for every patch."""
    cu_image = _cu_image()

    def read(x0: Sequence[int], y0: Sequence[int]) -> np.ndarray:
        for x, y in zip(x0, y0, strict=True):
            patch = np.asarray(cu_image(str(path)).read_region((x, y), (size, size), 0))
        return patch

    return read


def openslide_(path: Path, size: int) -> Read:
    """OpenSlide with one open handle; RGBA, as it comes."""
    slide = openslide.OpenSlide(path)

    def read(x0: Sequence[int], y0: Sequence[int]) -> np.ndarray:
        for x, y in zip(x0, y0, strict=True):
            patch = np.asarray(slide.read_region((x, y), 0, (size, size)))
        return patch[..., :3]

    return read


def openslide_reopened(path: Path, size: int) -> Read:
    """OpenSlide, the slide opened for every patch: the usual data set whose items open what they need."""

    def read(x0: Sequence[int], y0: Sequence[int]) -> np.ndarray:
        for x, y in zip(x0, y0, strict=True):
            with openslide.OpenSlide(path) as slide:
                patch = np.asarray(slide.read_region((x, y), 0, (size, size)))
        return patch[..., :3]

    return read


def pathssl_reopened(path: Path, size: int, mpp: float) -> Read:
    """Our own `open_slide` for every patch, with all that it looks into."""

    def read(x0: Sequence[int], y0: Sequence[int]) -> np.ndarray:
        for x, y in zip(x0, y0, strict=True):
            slide = open_slide(path, mpp)
            patch = slide.read(x, y, mpp, size)
            slide.close()
        return patch

    return read


def wsistream(path: Path, size: int, mpp: float, batch_size: int) -> Read:
    """wsistream's PatchPipeline with its OpenSlide backend, in this process, its patches collated into batches.

    Its own sampler is replaced by one that names our positions, which costs less than its search for tissue. The slide is opened,
    and its mask made, before the first `read`.
    """
    pipeline_, backends = importlib.import_module("wsistream.pipeline"), importlib.import_module("wsistream.backends")
    base, types = importlib.import_module("wsistream.sampling"), importlib.import_module("wsistream.types")

    class Given(base.PatchSampler):
        def sample(self, slide, tissue_mask):  # noqa: ARG002  its signature
            while positions:
                x, y = positions.pop()
                yield types.PatchCoordinate(x=x, y=y, level=0, patch_size=size, mpp=mpp, slide_path=str(path))

    positions: list[tuple[int, int]] = [(0, 0)]
    pipeline = pipeline_.PatchPipeline(
        slide_paths=[path], backend=backends.OpenSlideBackend(), sampler=Given(), pool_size=1, patches_per_slide=2**62
    )
    patches = iter(pipeline)

    def one() -> np.ndarray:
        if (patch := next(patches, None)) is None:  # it has logged why
            raise RuntimeError(f"wsistream could not read {path}")
        return patch.image

    one()

    def read(x0: Sequence[int], y0: Sequence[int]) -> np.ndarray:
        positions.extend(zip(reversed(x0), reversed(y0), strict=True))
        for start in range(0, len(x0), batch_size):
            count = min(batch_size, len(x0) - start)
            batch = np.stack([one() for _ in range(count)])
        return batch[-1]

    return read


def cucim_tiles(path: Path, tile_px: int) -> Read:
    """cuCIM on aligned windows of 2 x 2 tiles: four tiles a read, nothing decoded in vain."""
    image = _cu_image()(str(path))
    width, height = image.resolutions["level_dimensions"][0]
    side = 2 * tile_px

    def read(x0: Sequence[int], y0: Sequence[int]) -> np.ndarray:
        for x, y in zip(x0, y0, strict=True):
            corner = min(x // tile_px * tile_px, width - side), min(y // tile_px * tile_px, height - side)
            window = np.asarray(image.read_region(corner, (side, side), 0))
        return window

    return read


def imagecodecs_tiles(path: Path, tile_px: int) -> Read:
    """libjpeg-turbo (by imagecodecs) on the tiles' bytes in memory: nothing but decoding. One tile per position."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offsets, sizes, tables = page.dataoffsets, page.databytecounts, page.jpegtables
        columns = -(-page.imagewidth // tile_px)
    data = np.memmap(path, np.uint8, "r")

    def read(x0: Sequence[int], y0: Sequence[int]) -> np.ndarray:
        for x, y in zip(x0, y0, strict=True):
            tile = y // tile_px * columns + x // tile_px
            decoded = imagecodecs.jpeg8_decode(data[offsets[tile] : offsets[tile] + sizes[tile]], tables=tables)
        return decoded

    return read


def _cu_image() -> type:
    usable, reason = cucim_reader.available()
    if not usable:
        raise ImportError(reason)
    return importlib.import_module("cucim").CuImage
