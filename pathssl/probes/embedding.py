"""Which of an encoder's outputs stands for an image.

Axes: B images, H, W pixels, C colours, T tokens, D features.
"""

import torch
from torch import Tensor, nn

from pathssl.errors import UserError

POOLS = ("cls", "mean", "cls_mean")


class Embedding(nn.Module):
    """A ViT of timm with the features of `pool`: (B, C, H, W) to (B, D), or (B, 2 D) for cls_mean.

    cls: the CLS token; mean: the mean of the patch tokens; cls_mean: the one beside the other, as DINOv2's linear evaluation takes them
    (Oquab et al. 2023). block: of which block, from 0, negative ones counted from the end; the encoder's last norm is applied to
    its output too. None is the last.
    """

    def __init__(self, encoder: nn.Module, *, pool: str, block: int | None):
        super().__init__()
        blocks = len(encoder.blocks)
        if pool not in POOLS:
            raise UserError(f"features.pool={pool} is not one of {', '.join(POOLS)}.")
        if block is not None and not -blocks <= block < blocks:
            raise UserError(
                f"features.block={block}: the model has {blocks} blocks, 0 to {blocks - 1} (or -1, the last, to {-blocks})."
            )
        self.encoder, self.pool, self.block = encoder, pool, block

    def forward(self, images_BCHW: Tensor) -> Tensor:
        cls_BTD, patches_BTD = self.tokens(images_BCHW)
        features = {"cls": cls_BTD[:, 0], "mean": patches_BTD.mean(dim=1)}
        return torch.cat([features[name] for name in self.pool.split("_")], dim=1)

    def tokens(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Those before the patches, of which CLS is the first, and the patches'."""
        prefix = self.encoder.num_prefix_tokens
        if self.block is None:
            tokens_BTD = self.encoder.forward_features(images_BCHW)
            return tokens_BTD[:, :prefix], tokens_BTD[:, prefix:]
        index = self.block % len(self.encoder.blocks)
        ((patches_BTD, prefix_BTD),) = self.encoder.forward_intermediates(
            images_BCHW,
            indices=[index],
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        return prefix_BTD, patches_BTD


def embedded(encoder: nn.Module, *, pool: str, block: int | None) -> nn.Module:
    """`encoder` itself where its own output is asked for, else an Embedding around it."""
    return encoder if pool == "cls" and block is None else Embedding(encoder, pool=pool, block=block)
