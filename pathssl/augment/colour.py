"""Colour jitter, grey and solarise on (n, 3, h, w) float32 views in [0, 1], in batch, as torchvision defines them.

Axes: n view, c channel, h/w row/column.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import reduce

from pathssl.augment.draws import Stream
from pathssl.augment.settings import within
from pathssl.devices import on

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, as torchvision rounds it


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """With probability p: brightness, contrast and saturation by factors in [1 - s, 1 + s], hue turned by up to `hue`
    of a full circle, in random order (torchvision's ColorJitter).
    """

    p: float
    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __post_init__(self) -> None:
        for name, high in (("p", 1), ("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            within(f"jitter.{name}", getattr(self, name), 0, high)

    def draw(self, stream: Stream) -> dict[str, np.ndarray]:
        """factors (views, patches, 4): brightness, contrast, saturation, turn of the hue; order (views, patches, 4):
        which of them comes first, second ... Views that are not jittered have the neutral factors 1, 1, 1, 0.
        """
        u = stream.uniforms("jitter", 9)
        neutral = np.array([1.0, 1.0, 1.0, 0.0])
        strength = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        factors = neutral + (2 * u[..., 1:5] - 1) * strength * (u[..., :1] < self.p)
        return {"factors": factors, "order": np.argsort(u[..., 5:9], axis=-1)}

    def __call__(self, images: torch.Tensor, drawn: dict[str, np.ndarray]) -> torch.Tensor:
        """`images`, changed in place.

        The first three are all `f x + (1 - f) y`, clamped, where y is black, the image's mean grey or the pixel's grey.
        So each of the four places in the order is one pass over all views, with f = 1 where the hue's turn has come.
        """
        factors, order = drawn["factors"], drawn["order"]
        for operation in order.T:
            factor = np.where(operation == HUE, 1.0, factors[np.arange(len(factors)), operation])
            blend_with_grey(images, factor, operation == CONTRAST, operation == SATURATION)
            turned = np.flatnonzero((operation == HUE) & (factors[:, HUE] != 0))
            if len(turned):
                index = on(images.device, turned)
                some = images.index_select(0, index)
                images.index_copy_(0, index, turn_hue(some, factors[turned, HUE]))
        return images


@dataclass(frozen=True, kw_only=True)
class Grey:
    """With probability p a view loses its colour."""

    p: float

    def __post_init__(self) -> None:
        within("grey.p", self.p, 0, 1)

    def draw(self, stream: Stream) -> dict[str, np.ndarray]:
        """chosen (views, patches) bool."""
        return {"chosen": stream.uniforms("grey", 1)[..., 0] < self.p}

    def __call__(self, images: torch.Tensor, drawn: dict[str, np.ndarray]) -> torch.Tensor:
        """`images`, changed in place."""
        chosen = np.flatnonzero(drawn["chosen"])
        if len(chosen):
            index = on(images.device, chosen)
            some = images.index_select(0, index)
            images.index_copy_(0, index, luma(some).expand_as(some))
        return images


@dataclass(frozen=True, kw_only=True)
class Solarise:
    """With probability `global_2_p` all values of a second global view at or above threshold / 255 are inverted."""

    global_2_p: float
    threshold: float

    def __post_init__(self) -> None:
        within("solarise.global_2_p", self.global_2_p, 0, 1)
        within("solarise.threshold", self.threshold, 0, 255)

    def draw(self, stream: Stream) -> dict[str, np.ndarray]:
        """chosen (views, patches) bool."""
        second = np.arange(stream.views)[:, None] == 1
        p = self.global_2_p if stream.kind == "global" else 0.0
        return {"chosen": second & (stream.uniforms("solarise", 1)[..., 0] < p)}

    def __call__(self, images: torch.Tensor, drawn: dict[str, np.ndarray]) -> torch.Tensor:
        """`images`, changed in place."""
        chosen = np.flatnonzero(drawn["chosen"])
        if len(chosen):
            index = on(images.device, chosen)
            some = images.index_select(0, index)
            images.index_copy_(0, index, torch.where(some >= self.threshold / 255, 1 - some, some))
        return images


def luma(images: torch.Tensor) -> torch.Tensor:
    """(n, 1, h, w) grey level of every pixel."""
    red, green, blue = images.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def blend_with_grey(images: torch.Tensor, factor: np.ndarray, mean: np.ndarray, pixel: np.ndarray) -> None:
    """Makes `images` factor * image + (1 - factor) * y, clamped to [0, 1], in place; y is the image's mean grey where
    `mean` is true, the pixel's own grey where `pixel` is, else 0. All three (n,), one number per view.
    """
    factor_, of_mean, of_pixel = (
        on(images.device, values)[:, None, None, None] for values in (factor, (1 - factor) * mean, (1 - factor) * pixel)
    )
    grey = luma(images)
    # Two reductions of which each has many results: a single one would be summed in another order for a batch of one.
    average = reduce(reduce(grey, "n c h w -> n c h", "mean"), "n c h -> n c 1 1", "mean")
    images.mul_(factor_).add_(grey.mul_(of_pixel).add_(average * of_mean)).clamp_(0, 1)


def turn_hue(images: torch.Tensor, turn: np.ndarray) -> torch.Tensor:
    """(n, 3, h, w): hue moved by `turn` (n,) of a full circle, value and saturation kept (HSV).

    With M, m the largest and smallest channel, the hue in sixths of the circle is, without a case per sector,
    H = sign(g - b) ((r + g + b - m - 2 r) / (M - m) + 1) in [-3, 3], and back: r = m + (M - m) clamp(2 - |H|, 0, 1),
    g, b = m + (M - m) clamp(|H +- 1| - 1, 0, 1). Equal to the usual six-sector form; fewer passes and no branches.
    """
    red, green, blue = images.split(1, dim=1)
    high = torch.maximum(red, green)
    low = torch.minimum(red, green)
    green_blue = green + blue
    chroma = torch.maximum(high, blue, out=high).sub_(torch.minimum(low, blue, out=low))
    hue = green_blue.sub_(red).sub_(low).div_(chroma.clamp(min=1e-12)).add_(1).copysign_(green - blue)
    hue.add_(on(images.device, 6 * turn)[:, None, None, None])
    hue.sub_(torch.round(hue / 6).mul_(6))
    out = torch.empty_like(images)
    red, green, blue = out.split(1, dim=1)
    torch.abs(hue, out=red).neg_().add_(2)
    torch.add(hue, 1, out=green).abs_().sub_(1)
    torch.sub(hue, 1, out=blue).abs_().sub_(1)
    return out.clamp_(0, 1).mul_(chroma).add_(low)
