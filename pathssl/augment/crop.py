"""Random resized crops with flips and turns, in batch: the antialiased triangle filter as two sparse products.

Axes: n view (all views of all patches), b patch, c channel, h/w source row/column, k tap. S = patch_px, P = view_px.

A row of the resizing matrix has only a few nonzero weights ("taps"), so each product is an embedding bag: a weighted
sum of a few rows of a table. On a CPU that takes a fraction of the time of dense batched products, and since each sum
is made on its own, no view's bits depend on its neighbours. Flips reverse the order of the sums; a turn reads a
transposed table.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat

from pathssl.augment.draws import Stream
from pathssl.devices import on

ATTEMPTS = 10  # as torchvision's RandomResizedCrop


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Crops of `scale` (range of area, as a share of the patch) and `ratio` (range of width / height), resized to
    view_px.

    A view is flipped left-right with probability `horizontal_flip`, top-down with `vertical_flip`; with `turn` it is
    then turned by 0, 90, 180 or 270 degrees, each with probability 1/4.
    """

    view_px: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    horizontal_flip: float
    vertical_flip: float
    turn: bool

    def draw(self, stream: Stream, patch_px: int) -> dict[str, np.ndarray]:
        """Boxes in patch pixels and orientation: top, left, height, width (views, patches) int; transpose, flip_rows,
        flip_columns (views, patches) bool, to be applied to the resized crop in this order.
        """
        flips = stream.uniforms("flip", 2)
        left_right, top_down = flips[..., 0] < self.horizontal_flip, flips[..., 1] < self.vertical_flip
        quarters = (stream.uniforms("turn", 1)[..., 0] * 4 * self.turn).astype(int)
        # A counter-clockwise quarter turn is a transposition, then a top-down flip. Flips that came before a
        # transposition act on the other axis after it.
        transpose = quarters % 2 == 1
        rows = np.where(transpose, left_right, top_down) ^ np.isin(quarters, (1, 2))
        columns = np.where(transpose, top_down, left_right) ^ np.isin(quarters, (2, 3))
        return {**self._boxes(stream, patch_px), "transpose": transpose, "flip_rows": rows, "flip_columns": columns}

    def _boxes(self, stream: Stream, patch_px: int) -> dict[str, np.ndarray]:
        """Boxes as torchvision's RandomResizedCrop draws them: area uniform, log of the ratio uniform, up to ten
        attempts to fit into the patch; the whole patch if none does (the ratio 1 is always allowed).
        """
        shape = (stream.views, len(stream.seeds))
        height, width = np.full(shape, patch_px), np.full(shape, patch_px)
        top, left = np.zeros(shape, int), np.zeros(shape, int)
        open_ = np.ones(shape, bool)
        for attempt in range(ATTEMPTS):
            seeds = np.flatnonzero(open_.any(axis=0))
            if not len(seeds):
                break
            u = np.zeros((*shape, 4))
            u[:, seeds] = Stream(stream.kind, stream.views, stream.seeds[seeds]).uniforms("crop", 4, attempt)
            area = (self.scale[0] + (self.scale[1] - self.scale[0]) * u[..., 0]) * patch_px**2
            low, high = np.log(self.ratio)
            aspect = np.exp(low + (high - low) * u[..., 1])
            w, h = np.rint(np.sqrt(area * aspect)).astype(int), np.rint(np.sqrt(area / aspect)).astype(int)
            fits = open_ & (w > 0) & (w <= patch_px) & (h > 0) & (h <= patch_px)
            height[fits], width[fits] = h[fits], w[fits]
            top[fits] = (u[..., 2] * (patch_px - h + 1)).astype(int)[fits]
            left[fits] = (u[..., 3] * (patch_px - w + 1)).astype(int)[fits]
            open_ &= ~fits
        return {"top": top, "left": left, "height": height, "width": width}

    def __call__(self, tables: torch.Tensor, drawn: dict[str, np.ndarray]) -> torch.Tensor:
        """(n, 3, P, P) float32 in [0, 1] from the `tables` of b patches; drawn values are (n,) with n = (views b)."""
        _, patches, patch_px, _, _ = tables.shape
        device, n = tables.device, len(drawn["top"])
        longest_px = min(patch_px, math.sqrt(self.scale[1] * max(self.ratio[1], 1 / self.ratio[0])) * patch_px + 0.5)
        taps = math.ceil(2 * max(1.0, longest_px / self.view_px)) + 1  # from settings, never from a batch

        transpose = drawn["transpose"]
        columns = np.where(transpose, drawn["top"], drawn["left"]), np.where(transpose, drawn["height"], drawn["width"])
        rows = np.where(transpose, drawn["left"], drawn["top"]), np.where(transpose, drawn["width"], drawn["height"])
        table = (transpose * patches + np.arange(n) % patches) * patch_px

        index, weight = resize_taps(*columns, drawn["flip_columns"], self.view_px, taps, device)
        index += on(device, table.astype(np.int32))[:, None, None]
        wide = _weighted_rows(rearrange(tables, "t b w c h -> (t b w) (c h)"), index, weight)
        wide = rearrange(wide, "(n w) (c h) -> (n c h) w", n=n, c=3).contiguous()

        index, weight = resize_taps(*rows, drawn["flip_rows"], self.view_px, taps, device)
        planes = torch.arange(3 * n, dtype=torch.int32, device=device)[:, None, None]
        index = repeat(index, "n p k -> (n c) p k", c=3) + planes * patch_px
        views = _weighted_rows(wide, index, repeat(weight / 255, "n p k -> (n c) p k", c=3))
        return rearrange(views, "(n c h) w -> n c h w", n=n, c=3)


def source_tables(patches_BHWC: torch.Tensor, turned: bool) -> torch.Tensor:
    """(t, b, S, 3, S) float32, 0..255: each patch column by column (t = 0) and, if `turned`, row by row (t = 1)."""
    b, h, w, c = patches_BHWC.shape
    tables = patches_BHWC.new_empty((2 if turned else 1, b, w, c, h), dtype=torch.float32)
    tables[0].copy_(rearrange(patches_BHWC, "b h w c -> b w c h"))
    if turned:
        tables[1].copy_(rearrange(patches_BHWC, "b h w c -> b h c w"))
    return tables


def resize_taps(
    start: np.ndarray, size: np.ndarray, flip: np.ndarray, view_px: int, taps: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Source index int32 and weight float32, each (n, view_px, taps), of resizing [start, start + size) to view_px.

    The triangle filter of PIL and torch's `interpolate(antialias=True)`, widened by the scale s = size / view_px where
    that shrinks: with centre c = s (i + 1/2) the weight of pixel j is max(0, 1 - |j + 1/2 - c| / max(s, 1)),
    normalised.
    """
    start, size, flip = (on(device, a.astype(np.float32))[:, None, None] for a in (start, size, flip))
    target = torch.arange(view_px, dtype=torch.float32, device=device)[None, :, None]
    target = target + flip * (view_px - 1 - 2 * target)
    scale = size / view_px
    support = scale.clamp(min=1)
    centre = scale * (target + 0.5)
    source = (centre - support + 0.5).floor().clamp(min=0) + torch.arange(taps, dtype=torch.float32, device=device)
    weight = (1 - (source + 0.5 - centre).abs() / support).clamp_(min=0) * (source < size)
    weight /= weight.sum(-1, keepdim=True)
    return (torch.minimum(source, size - 1) + start).to(torch.int32), weight


def _weighted_rows(table: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(rows, D): out[r] = sum over k of weight[r, k] * table[index[r, k]]."""
    index, weight = index.flatten(0, -2), weight.flatten(0, -2)
    return F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")
