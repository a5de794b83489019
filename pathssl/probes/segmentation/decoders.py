"""Heads that draw masks from maps of patch tokens; the heads of all seeds are one batch of models, each the same as alone.

Axes: S heads (seeds), B crops of a batch, h and w patches of a crop, D features, K classes, F hidden features; y, x of a kernel.
"""

from collections.abc import Sequence

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import nn
from torch.nn import functional

from pathssl.seeding import integer_seed


class LinearDecoder(nn.Module):
    """One linear layer on each token."""

    def __init__(self, d: int, classes: int, seeds: Sequence[int]):
        super().__init__()
        draws = _draws(seeds)
        self.weight = _uniform(draws, (classes, d), fan_in=d)
        self.bias = _uniform(draws, (classes,), fan_in=d)

    def forward(self, tokens_SBhwD: torch.Tensor) -> torch.Tensor:
        """(S, B, K, h, w) logits."""
        logits = einsum(tokens_SBhwD, self.weight, "s b h w d, s k d -> s b k h w")
        return logits + rearrange(self.bias, "s k -> s 1 k 1 1")


class ConvDecoder(nn.Module):
    """Twice: upsampled by two to the nearest, then a 3 x 3 convolution, D -> hidden -> K; nothing between. eva's `ConvDecoderMS`."""

    def __init__(self, d: int, classes: int, seeds: Sequence[int], *, hidden: int):
        super().__init__()
        draws = _draws(seeds)
        self.first_weight = _uniform(draws, (hidden, d, 3, 3), fan_in=9 * d)
        self.first_bias = _uniform(draws, (hidden,), fan_in=9 * d)
        self.second_weight = _uniform(draws, (classes, hidden, 3, 3), fan_in=9 * hidden)
        self.second_bias = _uniform(draws, (classes,), fan_in=9 * hidden)

    def forward(self, tokens_SBhwD: torch.Tensor) -> torch.Tensor:
        """(S, B, K, 4 h, 4 w) logits."""
        tokens = rearrange(tokens_SBhwD, "s b h w d -> s b d h w")
        # One convolution for each head: with `groups` CPUs take half as long again.
        kernels = zip(tokens, self.first_weight, self.first_bias, strict=True)
        hidden = torch.stack(
            [functional.conv2d(_doubled(own), weight, bias, padding=1) for own, weight, bias in kernels]
        )
        return self._second(hidden)

    def _second(self, hidden_SBFhw: torch.Tensor) -> torch.Tensor:
        """(S, B, K, 2 h, 2 w): doubled and convolved, each tap of the kernel by itself, as K is small.

        A tap's product is the same for the four copies of a value, so it is taken once, before the copies are made.
        """
        taps = einsum(hidden_SBFhw, self.second_weight, "s b f h w, s k f y x -> y x s b k h w")
        padded = functional.pad(_doubled(taps), (1, 1, 1, 1))
        height, width = padded.shape[-2] - 2, padded.shape[-1] - 2
        logits = rearrange(self.second_bias, "s k -> s 1 k 1 1")
        for y in range(3):
            for x in range(3):
                logits = logits + padded[y, x, ..., y : y + height, x : x + width]
        return logits


def _doubled(maps: torch.Tensor) -> torch.Tensor:
    """The maps twice as high and wide, each value four times."""
    return repeat(maps, "... h w -> ... (h two) (w too)", two=2, too=2)


def _draws(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(integer_seed(seed, "segmentation head")) for seed in seeds]


def _uniform(draws: list[torch.Generator], shape: tuple[int, ...], *, fan_in: int) -> nn.Parameter:
    """(S, *shape) of torch's usual initialisation of linear layers and convolutions, each head's from its own generator."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.stack([torch.empty(shape).uniform_(-bound, bound, generator=draw) for draw in draws]))


class Upsampling(nn.Module):
    """Bilinear, to `size_px` squared, as torch's `interpolate` without aligned corners.

    It is two matrix products, rows and columns: on GPUs torch's own has no deterministic gradient.
    """

    def __init__(self, size_px: int):
        super().__init__()
        self.size_px = size_px

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(..., size_px, size_px) of (..., h, w)."""
        rows, columns = (self._weights(size, maps.device) for size in maps.shape[-2:])
        return rows @ (maps @ columns.T)

    def _weights(self, size: int, device: torch.device) -> torch.Tensor:
        """(size_px, size): what each pixel takes of each value."""
        unit = torch.eye(size, device=device)[None]
        return functional.interpolate(unit, size=self.size_px, mode="linear", align_corners=False)[0].T.contiguous()


def dice_loss(logits_SBKPP: torch.Tensor, labels_SBPP: torch.Tensor) -> torch.Tensor:
    """(S,) 1 - Dice of the softmax, over the pixels of the whole batch, averaged over the classes; other labels do not count.

    For a class with probabilities p and indicators t, Dice = 2 sum(p t) / (sum p + sum t), with 1e-5 above and below: MONAI's
    `DiceLoss(softmax=True, batch=True)`.
    """
    probability = logits_SBKPP.softmax(dim=2)
    classes = torch.arange(probability.shape[2], device=probability.device)
    true = (labels_SBPP[:, :, None] == rearrange(classes, "k -> k 1 1")).to(probability.dtype)
    counted = (labels_SBPP < len(classes)).to(probability.dtype)
    both = einsum(probability, true, "s b k y x, s b k y x -> s k")
    predicted = einsum(probability, counted, "s b k y x, s b y x -> s k")
    actual = reduce(true, "s b k y x -> s k", "sum")
    return 1 - ((2 * both + 1e-5) / (predicted + actual + 1e-5)).mean(dim=1)
