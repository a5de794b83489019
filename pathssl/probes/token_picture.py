"""What an encoder's patch tokens tell apart within images, as a picture: their first three principal components in red, green and blue.

As in Oquab et al. 2023 (DINOv2, figure 1), without their threshold on the first component.
Axes: N images, H and W pixels, C colours, h and w patches of an image, T all tokens of all images, D features.
"""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange, reduce
from PIL import Image
from torch import nn

from pathssl.probes.features import extract
from pathssl.probes.segmentation.tokens import FlatTokens

IMAGES = 8
_GAP_PX = 4
_CUT = 0.01  # of the tokens, at either end of a component, are shown as its ends


def token_picture(
    encoder: nn.Module,
    images_NHWC: np.ndarray,
    *,
    device: torch.device | str,
    mean: Sequence[float],
    std: Sequence[float],
) -> Image.Image:
    """The first IMAGES of `images_NHWC` (uint8), and below each the colours of its patch tokens, a square for a token."""
    images_NHWC = images_NHWC[:IMAGES]
    maps = FlatTokens(encoder, None)
    flat_NF = extract(maps, [images_NHWC], device=device, mean=mean, std=std)
    tokens_NhwD = flat_NF.reshape(-1, *maps.shape)
    colours_NhwC = token_colours(tokens_NhwD, _darkness(images_NHWC, maps.shape[:2]))
    N, H, W, _ = images_NHWC.shape
    canvas = np.full((2 * H + _GAP_PX, N * (W + _GAP_PX) - _GAP_PX, 3), 255, np.uint8)
    for n in range(N):
        left = n * (W + _GAP_PX)
        squares = Image.fromarray(colours_NhwC[n]).resize((W, H), Image.Resampling.NEAREST)
        canvas[:H, left : left + W] = images_NHWC[n]
        canvas[H + _GAP_PX :, left : left + W] = np.asarray(squares)
    return Image.fromarray(canvas)


def token_colours(tokens_NhwD: np.ndarray, darkness_Nhw: np.ndarray) -> np.ndarray:
    """(N, h, w, 3) uint8: a component's lowest tokens 0, its highest 255, all images on one scale.

    A component's sign says nothing, so that it is turned to grow with `darkness_Nhw`, and pictures of two encoders are alike where they
    can be. A component in which all tokens agree is grey.
    """
    N, h, w, _ = tokens_NhwD.shape
    centred_TD = rearrange(tokens_NhwD, "n h w d -> (n h w) d").astype(np.float64)
    centred_TD -= centred_TD.mean(axis=0)
    variances_D, axes_DD = np.linalg.eigh(centred_TD.T @ centred_TD / len(centred_TD))  # in ascending order
    parts_TC = centred_TD @ axes_DD[:, ::-1][:, :3]
    dark_T = darkness_Nhw.reshape(-1) - darkness_Nhw.mean()
    parts_TC *= np.where(dark_T @ parts_TC < 0, -1, 1)
    low_C, high_C = np.quantile(parts_TC, (_CUT, 1 - _CUT), axis=0)
    shown_C = variances_D[::-1][:3] > 1e-12 * max(variances_D[-1], np.finfo(float).tiny)
    scaled_TC = (parts_TC - low_C) / np.where(high_C > low_C, high_C - low_C, 1)
    scaled_TC = np.where(shown_C & (high_C > low_C), scaled_TC, 0.5)
    return rearrange((255 * scaled_TC.clip(0, 1)).round().astype(np.uint8), "(n h w) c -> n h w c", n=N, h=h, w=w)


def _darkness(images_NHWC: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(N, h, w): 255 minus the mean of the pixels of each patch of a `grid` of (h, w)."""
    h, w = grid
    height, width = images_NHWC.shape[1] // h * h, images_NHWC.shape[2] // w * w
    return 255 - reduce(
        images_NHWC[:, :height, :width].astype(np.float64), "n (h y) (w x) c -> n h w", "mean", h=h, w=w
    )
