"""Pictures of what a config would train on: slides with mask and patches, patches accepted and rejected, views."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

from pathssl import parts
from pathssl.data.sampling import Draws
from pathssl.pictures import stack, strip, views_picture
from pathssl.seeding import uniforms
from pathssl.slides.foreground import tissue_mask
from pathssl.slides.slide import COARSER

_PER_SLIDE, _PER_ROW, _ROWS = 64, 8, 4
_GREEN, _BLACK = (0, 130, 60), (0, 0, 0)


def draw_gallery(config: Mapping[str, Any], folder: Path, most_slides: int) -> list[Path]:
    """The pictures' paths: slide_*.png, accepted.png, rejected.png, views.png under `folder`."""
    parts.check(config)
    torch.set_num_threads(config["train"]["threads"])
    data = parts.Data(config)
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def save(name: str, picture: Image.Image) -> None:
        picture.save(folder / name)
        written.append(folder / name)

    draws = data.sampler.sample(config["seed"], np.arange(_PER_SLIDE * len(data.training_slides)))
    for k in data.training_slides[:most_slides]:
        save(
            f"slide_{Path(data.index.paths[k]).stem}.png",
            slide_picture(data, config["data"]["foreground"], int(k), draws),
        )
    reader = data.reader(config["seed"])
    accepted = reader.read(np.arange(_PER_ROW * _ROWS))
    save("accepted.png", _sheet(accepted.pixels))
    rejected = rejected_patches(data, _PER_ROW * _ROWS)
    if len(rejected):
        save("rejected.png", _sheet(rejected))
    views = parts.make(config["augmentation"])
    save("views.png", views_picture(accepted.pixels[:6], accepted.draws.views_seed[:6], views))
    reader.close()
    return written


def slide_picture(data: parts.Data, foreground: Mapping[str, Any], k: int, draws: Draws) -> Image.Image:
    """The thumbnail of slide k with the mask's outline in green and the footprints of its patches in black."""
    slide = data.index.open(k)
    thumbnail = slide.thumbnail(foreground["thumbnail_mpp"])
    slide.close()
    outline = find_boundaries(tissue_mask(thumbnail, foreground["method"]), mode="inner")
    thumbnail[outline] = _GREEN
    picture = Image.fromarray(thumbnail)
    pen = ImageDraw.Draw(picture)
    scale = data.index.mpp[k] / foreground["thumbnail_mpp"]
    for row in np.flatnonzero(draws.slide == k):
        x, y = draws.x0[row] * scale, draws.y0[row] * scale
        side = data.sampler.patch_px * draws.mpp[row] / foreground["thumbnail_mpp"]
        pen.rectangle((x, y, x + side, y + side), outline=_BLACK)
    return picture


def rejected_patches(data: parts.Data, count: int) -> np.ndarray:
    """(n, P, P, 3): up to `count` patches, anywhere on the training slides, with too little tissue to be drawn."""
    index, sampler = data.index, data.sampler
    found = []
    for i in range(count * 20):
        u = uniforms(0, "rejected", np.array([i]), 4)[0]
        m = sampler.mpp[int(u[0] * len(sampler.mpp))]
        k = int(data.training_slides[int(u[1] * len(data.training_slides))])
        side = sampler.patch_px * m / index.mpp[k]
        x0, y0 = int(u[2] * max(0, index.width[k] - side)), int(u[3] * max(0, index.height[k] - side))
        if index.mpp[k] <= m * COARSER and index.overlap(k, x0, y0, m, sampler.patch_px) < sampler.min_tissue:
            slide = index.open(k)
            found.append(slide.read(x0, y0, float(m), sampler.patch_px))
            slide.close()
        if len(found) == count:
            break
    return np.array(found)


def _sheet(pixels: np.ndarray) -> Image.Image:
    return stack([strip(pixels[i : i + _PER_ROW]) for i in range(0, len(pixels), _PER_ROW)])
