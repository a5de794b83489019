"""Maps of patch tokens: what a frozen encoder, or colour alone, says of each patch of each crop.

Axes: B crops of a batch, M crops of the set, h and w patches of a crop, D features, C colours; H, W pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch import nn

from pathssl.errors import UserError
from pathssl.probes.embedding import Embedding
from pathssl.probes.features import extract
from pathssl.probes.null import BINS, colour_histogram
from pathssl.probes.segmentation.crops import room
from pathssl.probes.segmentation.task import SegmentationTask


def token_map(encoder: nn.Module, images_BCHW: torch.Tensor, block: int | None = None) -> torch.Tensor:
    """(B, h, w, D): the patch tokens of a block of timm's ViT (see Embedding) after the last norm, without CLS and registers."""
    _, tokens_BND = Embedding(encoder, pool="mean", block=block).tokens(images_BCHW)
    patch_h, patch_w = encoder.patch_embed.patch_size
    h, w = images_BCHW.shape[2] // patch_h, images_BCHW.shape[3] // patch_w
    return rearrange(tokens_BND, "b (h w) d -> b h w d", h=h, w=w)


def encoder_tokens(
    encoder: nn.Module,
    task: SegmentationTask,
    batch_size: int,
    *,
    device: torch.device | str,
    mean: Sequence[float],
    std: Sequence[float],
    block: int | None = None,
) -> np.ndarray:
    """(M, h, w, D) float32, the token maps of all crops of the task."""
    for patch_px in encoder.patch_embed.patch_size:
        if task.image_px % patch_px:
            raise UserError(
                f"{task.source}: image_px={task.image_px} is not a multiple of the encoder's patches of {patch_px} px."
            )
    maps = FlatTokens(encoder, block)
    tokens: np.ndarray | None = None
    end = 0
    for batch_BHWC in task.batches(batch_size):
        start, end = end, end + len(batch_BHWC)
        flat_BF = extract(maps, [batch_BHWC], device=device, mean=mean, std=std)
        if tokens is None:  # now the shape is known
            tokens = room((len(task.image_M), *maps.shape), np.float32, task.cache_mib)
        tokens[start:end] = flat_BF.reshape(-1, *maps.shape)
    return tokens


def colour_tokens(task: SegmentationTask, batch_size: int, grid: tuple[int, int]) -> np.ndarray:
    """(M, h, w, 3 x BINS) float32: the colour histogram of each patch's own pixels, for a `grid` of (h, w) patches."""
    h, w = grid
    tokens = room((len(task.image_M), h, w, 3 * BINS), np.float32, task.cache_mib)
    end = 0
    for batch_BHWC in task.batches(batch_size):
        start, end = end, end + len(batch_BHWC)
        patches = rearrange(batch_BHWC, "b (h y) (w x) c -> (b h w) y x c", h=h, w=w)
        tokens[start:end] = rearrange(colour_histogram([patches]), "(b h w) d -> b h w d", h=h, w=w)
    return tokens


class FlatTokens(nn.Module):
    """(B, h * w * D), as `extract` wants features; `shape` is (h, w, D)."""

    def __init__(self, encoder: nn.Module, block: int | None):
        super().__init__()
        self.encoder, self.block = encoder, block
        self.shape: tuple[int, ...] = ()

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        tokens_BhwD = token_map(self.encoder, images_BCHW, self.block)
        self.shape = tuple(tokens_BhwD.shape[1:])
        return rearrange(tokens_BhwD, "b h w d -> b (h w d)")
