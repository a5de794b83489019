"""An encoder with its projection heads: what is a student, and what is a teacher.

Axes: V views (G global ones first), B patches, N tokens of an image, M masked tokens, K prototypes, D features.
"""

from contextlib import contextmanager, nullcontext

import torch
from einops import rearrange
from torch import nn


class Network(nn.Module):
    """`encoder` maps images to CLS features; `head` and `patch_head` map features to prototype scores.

    patch_head None: `head` serves patch tokens too. masked: whether patches of global views can be masked; the token that stands for them
    is kept here, so that the encoder stays what timm made.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, patch_head: nn.Module | None, *, masked: bool):
        super().__init__()
        self.encoder, self.head, self.patch_head = encoder, head, patch_head
        # Of two axes, as DINOv2's: it is decayed.
        self.mask_token = nn.Parameter(torch.zeros(1, encoder.num_features)) if masked else None

    def forward(
        self,
        view_sets: list[torch.Tensor],
        *,
        masks_GBHW: torch.Tensor | None = None,
        tokens_M: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """{"features": (G, B, D) CLS of the first set, "scores": (V, B, K), and, with `tokens_M`, "patch_scores": (M, K)}.

        view_sets: (V, B, 3, H, W) each; the views of one set pass through the encoder together. masks_GBHW: patches of the first set to be
        masked, True. tokens_M: of which patches of the first set scores are wanted, as places in (G, B, N).
        """
        batch = view_sets[0].shape[1]
        features = []
        for number, views in enumerate(view_sets):
            images = rearrange(views, "v b c h w -> (v b) c h w")
            if number == 0 and tokens_M is not None:
                with self._masking(masks_GBHW) if masks_GBHW is not None else nullcontext():
                    tokens_XND = self.encoder.forward_features(images)
                features.append(tokens_XND[:, 0])
                patches = rearrange(tokens_XND[:, self.encoder.num_prefix_tokens :], "x n d -> (x n) d")
                chosen_MD = patches.index_select(0, tokens_M)
            elif len(views):
                features.append(self.encoder(images))
        outputs = {"features": rearrange(features[0], "(g b) d -> g b d", b=batch)}
        rows = torch.cat(features)
        if tokens_M is None:
            scores = self.head(rows)
        elif self.patch_head is None:
            scores, outputs["patch_scores"] = self.head(torch.cat((rows, chosen_MD))).split((len(rows), len(chosen_MD)))
        else:
            scores, outputs["patch_scores"] = self.head(rows), self.patch_head(chosen_MD)
        return outputs | {"scores": rearrange(scores, "(v b) k -> v b k", b=batch)}

    @contextmanager
    def _masking(self, masks_GBHW: torch.Tensor):
        """Inside, the encoder sees the mask token in place of masked patches, before their positions are added."""
        masks = rearrange(masks_GBHW, "g b h w -> (g b) h w 1")

        def replace(_module: nn.Module, _inputs: tuple, patches: torch.Tensor) -> torch.Tensor:
            shaped = masks if patches.ndim == 4 else rearrange(masks, "x h w 1 -> x (h w) 1")
            return torch.where(shaped, self.mask_token.to(patches.dtype), patches)

        handle = self.encoder.patch_embed.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()

    def last_layers(self) -> list[nn.Parameter]:
        """The prototypes of the heads, which are frozen during the first steps."""
        heads = [head for head in (self.head, self.patch_head) if head is not None]
        return [parameter for head in heads for parameter in head.last_layer()]
