"""Gaussian blur of (n, 3, h, w) float32 views, in batch, with a sigma per view."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat

from pathssl.augment.draws import Stream
from pathssl.augment.settings import interval, within
from pathssl.devices import on


@dataclass(frozen=True, kw_only=True)
class Blur:
    """With a probability per kind of view, a Gaussian of standard deviation `sigma` (range, view pixels)."""

    global_1_p: float
    global_2_p: float
    local_p: float
    sigma: Sequence[float]

    def __post_init__(self) -> None:
        for name in ("global_1_p", "global_2_p", "local_p"):
            within(f"blur.{name}", getattr(self, name), 0, 1)
        interval("blur.sigma", self.sigma, 0, math.inf)

    @property
    def radius_px(self) -> int:
        """Half the kernel: three of the largest sigma."""
        return math.ceil(3 * self.sigma[1])

    def draw(self, stream: Stream) -> dict[str, np.ndarray]:
        """chosen (views, patches) bool, sigma (views, patches) in view pixels."""
        u = stream.uniforms("blur", 2)
        p = [self.global_1_p, self.global_2_p] if stream.kind == "global" else [self.local_p] * stream.views
        low, high = self.sigma
        return {"chosen": u[..., 0] < np.array(p)[:, None], "sigma": low + (high - low) * u[..., 1]}

    def __call__(self, images: torch.Tensor, drawn: dict[str, np.ndarray]) -> torch.Tensor:
        """`images`, changed in place."""
        chosen = np.flatnonzero(drawn["chosen"])
        if len(chosen):
            blurred = blur(images, chosen, drawn["sigma"][chosen], self.radius_px)
            images.index_copy_(0, on(images.device, chosen), blurred)
        return images


def blur(images: torch.Tensor, chosen: np.ndarray, sigma: np.ndarray, radius_px: int) -> torch.Tensor:
    """(m, 3, px, px): the `chosen` (m,) of `images` blurred by `sigma` (m,), with reflected borders.

    Equal to torchvision's gaussian_blur with a kernel of 2 radius_px + 1 pixels (DINO used PIL's blur, three box
    filters). Two products with banded matrices, as weighted sums of rows (embedding bags): down the rows, then down the
    columns.
    """
    m, px, device = len(chosen), images.shape[-1], images.device
    offset = torch.arange(-radius_px, radius_px + 1, device=device)
    weight = torch.exp(-0.5 * (offset / on(device, sigma)[:, None]) ** 2)
    weight /= weight.sum(-1, keepdim=True)
    weight = repeat(weight, "m k -> (m r) k", r=3 * px)
    row = (torch.arange(px, device=device)[:, None] + offset).abs()
    row = (px - 1 - (px - 1 - row).abs()).to(torch.int32)

    def down(table: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
        index = rearrange(planes[:, None, None] * px + row, "n p k -> (n p) k")
        return F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")

    planes = on(device, (chosen[:, None] * 3 + np.arange(3)).astype(np.int32).ravel())
    once = down(rearrange(images, "n c h w -> (n c h) w"), planes)
    once = rearrange(once, "(n h) w -> (n w) h", h=px).contiguous()
    twice = down(once, torch.arange(3 * m, dtype=torch.int32, device=device))
    return rearrange(twice, "(m c w) h -> m c h w", m=m, c=3)
