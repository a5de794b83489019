"""A frozen encoder's features of images.

Axes: B images of a batch, N of the set, D features; H, W pixels, C colours.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from einops import rearrange
from torch import nn


def extract(
    encoder: nn.Module,
    batches: Iterable[np.ndarray],
    *,
    device: torch.device | str,
    mean: Sequence[float],
    std: Sequence[float],
) -> np.ndarray:
    """(N, D) float32 features of all images, in their order.

    `batches` are (B, H, W, 3) uint8; `encoder` is on `device` and maps (B, 3, H, W), which is (image / 255 - mean) /
    std for each colour, to (B, D). It runs in float32, in eval mode and without gradients, and is left as it was.
    """
    mean_C11 = torch.tensor([float(value) for value in mean], device=device).view(3, 1, 1)
    std_C11 = torch.tensor([float(value) for value in std], device=device).view(3, 1, 1)
    features = []
    with _frozen(encoder), torch.inference_mode():
        for batch_BHWC in batches:
            images_BCHW = rearrange(torch.from_numpy(batch_BHWC).to(device), "b h w c -> b c h w")
            features_BD = encoder((images_BCHW.float() / 255 - mean_C11) / std_C11)
            if features_BD.ndim != 2:
                raise ValueError(f"the encoder must return (B, D) features, not {tuple(features_BD.shape)}")
            features.append(features_BD.float().cpu().numpy())
    features_ND = np.concatenate(features)
    if not np.isfinite(features_ND).all():
        bad = np.count_nonzero(~np.isfinite(features_ND).all(axis=1))
        raise FloatingPointError(
            f"the encoder gives NaN or Inf for {bad} of {len(features_ND)} images: its weights are broken"
        )
    return features_ND


@contextmanager
def _frozen(encoder: nn.Module) -> Iterator[None]:
    """Eval mode inside; outside, each module's own mode as it was (a part may be in eval while the whole trains)."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
