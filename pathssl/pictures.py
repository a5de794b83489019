"""Patches and views as pictures."""

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from pathssl.augment import MultiCrop

_GAP_PX = 4


def strip(images: list[np.ndarray] | np.ndarray) -> Image.Image:
    """The images (H, W, 3) uint8 side by side on white, tops aligned."""
    height = max(image.shape[0] for image in images)
    width = sum(image.shape[1] for image in images) + _GAP_PX * (len(images) - 1)
    canvas = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for image in images:
        canvas[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + _GAP_PX
    return Image.fromarray(canvas)


def stack(rows: list[Image.Image]) -> Image.Image:
    """Pictures below one another on white, left edges aligned."""
    canvas = Image.new(
        "RGB", (max(r.width for r in rows), sum(r.height for r in rows) + _GAP_PX * (len(rows) - 1)), "white"
    )
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height + _GAP_PX
    return canvas


def views_picture(patches_BHWC: np.ndarray, seeds: np.ndarray, views: MultiCrop) -> Image.Image:
    """A row for each patch: the patch, its global views, its local views."""
    made = views(torch.from_numpy(patches_BHWC), seeds)
    rows = []
    for b, patch in enumerate(patches_BHWC):
        shown = [patch]
        for kind in ("global", "local"):
            shown += [_pixels(view, views) for view in made[kind][:, b]]
        rows.append(strip(shown))
    return stack(rows)


def _pixels(view_CHW: torch.Tensor, views: MultiCrop) -> np.ndarray:
    mean, std = (torch.tensor(list(values)).view(3, 1, 1) for values in (views.mean, views.std))
    pixels = ((view_CHW * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return rearrange(pixels, "c h w -> h w c").numpy()
