"""Slides for tests: written in a moment, with pixels that say where they come from; and their index."""

from pathlib import Path

import numpy as np
import tifffile
from einops import reduce

from pathssl.slides.index import SlideIndex, build_index

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "slides"
SETTINGS = {"reader": "auto", "method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 32.0, "min_tissue": 0.4}


def position_colours(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: red and green are x and y in steps of 8 px, blue is their mean; up to 2048 px."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x // 8, y // 8, (x + y) // 16], axis=-1).astype(np.uint8)


def tissue_pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: a textured purple disc on white glass."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 244, np.int64)
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (0.4 * min(width, height)) ** 2
    pixels[inside] = (170, 90, 160)
    blocks = rng.integers(-40, 40, (-(-height // 8), -(-width // 8), 3)).repeat(8, 0).repeat(8, 1)
    pixels[inside] += blocks[:height, :width][inside]
    return pixels.clip(0, 255).astype(np.uint8)


def noisy_tissue(width: int, height: int, seed: int) -> np.ndarray:
    """As `tissue_pixels`, with noise, so that each tile is some kilobytes as JPEG."""
    noise = np.random.default_rng(seed).integers(-20, 20, (height, width, 3))
    return (tissue_pixels(width, height, seed) + noise).clip(0, 255).astype(np.uint8)


def write_pyramid(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: float | tuple[float, float] | None = 0.25,
    factors: tuple[int, ...] = (1, 4),
    compression: str | int | None = "zlib",
    tile: tuple[int, int] | None = (256, 256),
    description: str | None = None,
    **options,
) -> Path:
    """A tiled TIFF pyramid of means of `pixels`, levels cut to whole pixels; mpp as resolution tags."""
    x_mpp, y_mpp = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    with tifffile.TiffWriter(path) as file:
        for level, factor in enumerate(factors):
            height, width = (side // factor for side in pixels.shape[:2])
            cut = pixels[: height * factor, : width * factor]
            mean = reduce(cut.astype(np.float32), "(h a) (w b) c -> h w c", "mean", a=factor, b=factor)
            resolution = {}
            if mpp is not None:
                resolution = {
                    "resolution": (1e4 / (x_mpp * factor), 1e4 / (y_mpp * factor)),
                    "resolutionunit": "CENTIMETER",
                }
            file.write(
                np.rint(mean).astype(np.uint8),
                tile=tile,
                compression=compression,
                photometric="rgb",
                subfiletype=int(level > 0),
                description=description,
                metadata=None,
                **resolution,
                **options,
            )
    return path


def build(path, cache: Path, manifest=None, workers=0, **changes) -> SlideIndex:
    """The index of the slides in `path`, made in this process if `workers` is not given, without a progress bar."""
    return build_index(path, cache=cache, manifest=manifest, workers=workers, progress=False, **{**SETTINGS, **changes})
