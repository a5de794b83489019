"""HED stain jitter: haematoxylin, eosin and residual of (n, 3, h, w) views are scaled and shifted, in one pass.

Tellez et al., "Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference to train distilled
stain-invariant convolutional networks" (2018): S = log(x) D, S' = alpha S + beta, x' = exp(S' D^-1), drawn per stain.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from pathssl.augment.draws import Stream
from pathssl.augment.settings import within
from pathssl.devices import on

# Ruifrok & Johnston's stain vectors as in scikit-image's `rgb_from_hed`: rows are haematoxylin, eosin, residual (DAB).
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED)
DARKEST = 1e-6  # scikit-image's floor of an intensity; its stains are in units of log(1e-6)


@dataclass(frozen=True, kw_only=True)
class Hed:
    """With probability p each stain s becomes alpha s + beta, alpha in [1 - sigma, 1 + sigma], beta in [-sigma, sigma].

    Stains are in scikit-image's units (0 = clear, 1 = an intensity of 1e-6). Unlike its `rgb2hed`, negative stains are
    not cut off at 0: that alone recolours real patches visibly, and alpha = 1, beta = 0 would not give the patch back.
    """

    p: float
    sigma: float

    def __post_init__(self) -> None:
        within("hed.p", self.p, 0, 1)
        within("hed.sigma", self.sigma, 0, 1)

    def draw(self, stream: Stream) -> dict[str, np.ndarray]:
        """chosen (views, patches) bool; alpha, beta (views, patches, 3)."""
        u = stream.uniforms("hed", 7)
        spread = (2 * u[..., 1:] - 1) * self.sigma
        return {"chosen": u[..., 0] < self.p, "alpha": 1 + spread[..., :3], "beta": spread[..., 3:]}

    def __call__(self, images: torch.Tensor, drawn: dict[str, np.ndarray]) -> torch.Tensor:
        """`images`, changed in place where only some views are chosen."""
        chosen = np.flatnonzero(drawn["chosen"])
        alpha, beta = drawn["alpha"][chosen], drawn["beta"][chosen]
        if len(chosen) == len(images):
            return jitter_stains(images, alpha, beta)
        if len(chosen):
            index = on(images.device, chosen)
            images.index_copy_(0, index, jitter_stains(images.index_select(0, index), alpha, beta))
        return images


def jitter_stains(images: torch.Tensor, alpha: np.ndarray, beta: np.ndarray) -> torch.Tensor:
    """(n, 3, h, w): exp(A log(x) + a), clamped to [0, 1]: separation, alpha s + beta (both (n, 3)) and recombination
    fold into one matrix A and one vector a per view. `images` is used up.
    """
    matrix = np.einsum("ri,ni,io->nor", HED_FROM_RGB, alpha, RGB_FROM_HED)
    offset = np.log(DARKEST) * np.einsum("ni,io->no", beta, RGB_FROM_HED)
    logs = rearrange(images.clamp_(min=DARKEST).log_(), "n c h w -> n c (h w)")
    mixed = torch.baddbmm(on(images.device, offset)[:, :, None], on(images.device, matrix), logs)
    return mixed.exp_().clamp_(0, 1).view_as(images)
