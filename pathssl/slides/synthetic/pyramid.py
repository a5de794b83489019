"""A picture as a slide file: a generic tiled TIFF pyramid that OpenSlide, cuCIM and tifffile read."""

import io
from pathlib import Path

import einops
import numpy as np
import tifffile
from PIL import Image

JPEG_QUALITY = 80
TILE_PX = 256


def write_pyramid(path: Path, picture: np.ndarray, mpp: float) -> None:
    """Writes (H, W, 3) uint8 at `mpp` um per pixel with levels at 1, 2, 4, ... down to two tiles a side.

    Each level is a page of its own ("reduced image"), in JPEG tiles; resolution tags in pixels per cm.
    """
    with tifffile.TiffWriter(path) as file:
        level = 0
        while True:
            file.write(
                picture,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                subfiletype=int(level > 0),
                resolution=(1e4 / (mpp * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
                software="pathssl synthetic cohort",
                maxworkers=1,
            )
            if max(picture.shape) < 4 * TILE_PX:
                return
            picture, level = halved(picture), level + 1


def halved(picture: np.ndarray) -> np.ndarray:
    """(H // 2, W // 2, 3) uint8: means of two by two pixels."""
    even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2].astype(np.uint16)
    total = einops.reduce(even, "(h a) (w b) c -> h w c", "sum", a=2, b=2)
    return ((total + 2) // 4).astype(np.uint8)


def through_jpeg(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the picture as it comes out of a slide's tiles."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer))
