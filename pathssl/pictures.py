"""Patches, views and slides as pictures: drawing only; what is drawn comes from the caller."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont

from pathssl.augment import MultiCrop

GAP_PX = 4
_TEXT_PX, _LINE_PX = 15, 20
_INK, _SOFT, _PAPER = (29, 26, 36), (98, 92, 110), (255, 255, 255)
# Okabe and Ito's palette, which colour-blind readers can tell apart, without its pinks and yellows, which stained tissue and glass have.
_MAGNIFICATION_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (0, 0, 0), (86, 180, 233), (230, 159, 0))
_SMALLEST_VIEW_PX, _SMALLEST_PATCH_PX = (
    72,
    144,
)  # smaller ones are enlarged by whole factors, so that a caption fits below
_FOOTPRINT_PX = 5  # the least side of a footprint that can be seen
_GLASS_SHOWN = 0.25  # of the contrast, outside the mask


@dataclass(frozen=True)
class Footprint:
    """Where a patch lies on a picture of its slide: its corner and side in pixels of the picture, its magnification in um per pixel (or the
    finer end of the interval that it is in)."""

    left: float
    top: float
    side: float
    mpp: float


def strip(images: list[np.ndarray] | np.ndarray) -> Image.Image:
    """The images (H, W, 3) uint8 side by side on white, tops aligned."""
    height = max(image.shape[0] for image in images)
    width = sum(image.shape[1] for image in images) + GAP_PX * (len(images) - 1)
    canvas = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for image in images:
        canvas[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + GAP_PX
    return Image.fromarray(canvas)


def sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int) -> Image.Image:
    """The images (H, W, 3) uint8 in rows of `columns`, each with its caption (of any number of lines) below."""
    factor = _factor(min(image.shape[1] for image in images), _SMALLEST_PATCH_PX)
    return _grid([_captioned(image, caption, factor) for image, caption in zip(images, captions, strict=True)], columns)


def views_picture(
    patches_BHWC: np.ndarray, seeds: np.ndarray, views: MultiCrop, captions: Sequence[str] | None = None
) -> Image.Image:
    """A row for each patch: the patch, its global views, its local views in two lines, all labelled."""
    made = views(torch.from_numpy(patches_BHWC), seeds)
    sizes = [patches_BHWC.shape[1], *(view.shape[-1] for view in made.values() if view.numel())]
    factor = _factor(min(sizes), _SMALLEST_VIEW_PX)
    rows = []
    for b, patch in enumerate(patches_BHWC):
        large = [_captioned(patch, captions[b] if captions else "patch", factor)]
        large += [_captioned(_pixels(v, views), f"global {i}", factor) for i, v in enumerate(made["global"][:, b], 1)]
        small = [_captioned(_pixels(v, views), f"local {i}", factor) for i, v in enumerate(made["local"][:, b], 1)]
        if small:
            large.append(_grid(small, (len(small) + 1) // 2))
        rows.append(_grid(large, len(large)))
    return _grid(rows, 1)


def slide_picture(
    thumbnail: np.ndarray, mask: np.ndarray, footprints: Sequence[Footprint], names: Mapping[float, str]
) -> Image.Image:
    """The slide (H, W, 3) with what lies outside of `mask` (H, W) paled, the mask's outline, the patches in a colour for each
    magnification in `names`, and a legend below.
    """
    paled = 255 - (255 - thumbnail.astype(np.float32)) * _GLASS_SHOWN
    picture = Image.fromarray(np.where(mask[:, :, None], thumbnail, paled.astype(np.uint8)))
    outline = Image.fromarray(_outline(mask))
    picture.paste(_INK, mask=outline)
    pen = ImageDraw.Draw(picture)
    colours = {m: _MAGNIFICATION_COLOURS[i % len(_MAGNIFICATION_COLOURS)] for i, m in enumerate(sorted(names))}
    for one in sorted(footprints, key=lambda one: -one.side):
        side = max(one.side, _FOOTPRINT_PX)
        left, top = (round(corner + (one.side - side) / 2) for corner in (one.left, one.top))
        box = (left, top, left + round(side), top + round(side))
        pen.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=_PAPER, width=4)  # on any ground
        pen.rectangle(box, outline=colours[one.mpp], width=2)
    entries = [(_INK, False, "edge of the tissue mask")]
    for m in colours:
        number = sum(one.mpp == m for one in footprints)
        entries.append((colours[m], True, f"{number} patch{'' if number == 1 else 'es'} at {names[m]} µm/px"))
    return _above(picture, _legend(entries, max(picture.width, 320)))


def _outline(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 255 on pixels of the mask that touch its outside."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.where(mask & ~inside, 255, 0).astype(np.uint8)


def _legend(entries: list[tuple[tuple[int, int, int], bool, str]], width: int) -> Image.Image:
    """(colour, a square or a line, text) side by side, in as many lines as `width` asks for."""
    places, x, y = [], 0, 0
    for colour, square, text in entries:
        needed = 24 + round(_font().getlength(text)) + 18
        if x and x + needed > width:
            x, y = 0, y + _LINE_PX + 4
        places.append((x, y, colour, square, text))
        x += needed
    canvas = Image.new("RGB", (width, y + _LINE_PX + 4), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for x, y, colour, square, text in places:
        if square:
            pen.rectangle((x + 2, y + 3, x + 15, y + 16), outline=colour, width=2)
        else:
            pen.line((x + 1, y + 10, x + 17, y + 10), fill=colour, width=2)
        pen.text((x + 24, y + 1), text, fill=_INK, font=_font())
    return canvas


def _captioned(image: np.ndarray, caption: str, factor: int) -> Image.Image:
    lines = caption.split("\n")
    picture = Image.fromarray(image)
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    text_width = max(int(np.ceil(_font().getlength(line))) for line in lines)
    below = Image.new("RGB", (max(picture.width, text_width), _LINE_PX * len(lines) + 8), _PAPER)
    pen = ImageDraw.Draw(below)
    for i, line in enumerate(lines):
        pen.text((0, 2 + i * _LINE_PX), line, fill=_INK if i == 0 else _SOFT, font=_font())
    return _above(picture, below)


def _above(upper: Image.Image, lower: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (max(upper.width, lower.width), upper.height + GAP_PX + lower.height), _PAPER)
    canvas.paste(upper, (0, 0))
    canvas.paste(lower, (0, upper.height + GAP_PX))
    return canvas


def _grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """The pictures in rows of `columns` on white, tops and left edges aligned, each column as wide as its widest."""
    gap = 2 * GAP_PX
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    widths = [max(row[c].width for row in rows if c < len(row)) for c in range(len(rows[0]))]
    heights = [max(picture.height for picture in row) for row in rows]
    canvas = Image.new("RGB", (sum(widths) + gap * (len(widths) - 1), sum(heights) + gap * (len(rows) - 1)), _PAPER)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for picture, width in zip(row, widths, strict=False):
            canvas.paste(picture, (left, top))
            left += width + gap
        top += height + gap
    return canvas


def _factor(size_px: int, least_px: int) -> int:
    return max(1, round(least_px / size_px))


@cache
def _font() -> ImageFont.FreeTypeFont:
    """A font that every installation has: matplotlib brings it."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _TEXT_PX)


def _pixels(view_CHW: torch.Tensor, views: MultiCrop) -> np.ndarray:
    mean, std = (torch.tensor(list(values)).view(3, 1, 1) for values in (views.mean, views.std))
    pixels = ((view_CHW * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return rearrange(pixels, "c h w -> h w c").numpy()
