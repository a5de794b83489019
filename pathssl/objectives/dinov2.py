"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193): DINO's loss on views, iBOT's on masked patches, and a term that spreads features.

Axes: G global views, L local views, B patches, N tokens of an image, M masked tokens, K prototypes.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pathssl.devices import on
from pathssl.errors import UserError
from pathssl.models.network import Network
from pathssl.objectives.block_masks import block_masks
from pathssl.objectives.dino import DINO, Targets, Terms, Views, slices
from pathssl.objectives.kde import kde
from pathssl.objectives.koleo import koleo
from pathssl.objectives.masked_patch import masked_patch_loss


class DINOv2(DINO):
    """DINO with masked patches of the global views and spread features.

        loss = cross-view loss + patch_weight * masked-patch loss + spread["weight"] * sum over global views of the spread term

    patch_head: {"separate": whether patches have a head of their own, "out_dim", "bottleneck_dim" of it}. A global view is masked with
    `mask_probability`, then a share of its patches uniform in `mask_ratio`. spread: {"kind": koleo | kde | none, "weight", "group": the
    patches among which neighbours are sought, "concentration" of the kde}.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        patch_head: dict[str, Any],
        patch_weight: float,
        mask_probability: float,
        mask_ratio: tuple[float, float],
        spread: dict[str, Any],
        **dino: Any,
    ):
        self._patch_head_settings = dict(**patch_head)
        super().__init__(encoder, **dino)
        self.patch_weight, self.mask_probability, self.mask_ratio = patch_weight, mask_probability, tuple(mask_ratio)
        self.spread = dict(**spread)
        if self.spread["kind"] not in ("koleo", "kde", "none"):
            raise UserError(f"objective.spread.kind={self.spread['kind']} is not one of koleo, kde, none.")
        self.patch_centring = self._new_centring(self.prototypes()["patch_"])

    def _network(self, encoder: nn.Module, out_dim: int, bottleneck_dim: int) -> Network:
        settings, patch_head = self._patch_head_settings, None
        if settings["separate"]:
            patch_head = self._new_head(encoder, settings["out_dim"], settings["bottleneck_dim"])
        return Network(encoder, self._new_head(encoder, out_dim, bottleneck_dim), patch_head, masked=True)

    def prototypes(self) -> dict[str, int]:
        head = self.student.head if self.student.patch_head is None else self.student.patch_head
        return super().prototypes() | {"patch_": len(head.prototypes)}

    @torch.no_grad()
    def targets(self, views: Views, values: dict[str, float], micro_batch: int) -> Targets:
        masks_BGHW = self._masks(views)
        scores, patch_scores = [], []
        for rows in slices(views, micro_batch):
            images = views["global"][:, rows]
            outputs = self.teacher([images], tokens_M=_places(masks_BGHW[rows], images.device))
            scores.append(outputs["scores"])
            patch_scores.append(outputs["patch_scores"])
        of_views, terms = self._centred(torch.cat(scores, dim=1), values, self.centring)
        of_patches, patch_terms = self._centred(torch.cat(patch_scores), values, self.patch_centring)
        terms |= {f"patch_{name}": term for name, term in patch_terms.items()}
        return Targets(of_views, terms, masks_BGHW, of_patches)

    def losses(self, views: Views, targets: Targets) -> Terms:
        masks, device = targets.masks_BGHW, views["global"].device
        outputs = self._wrapped[0](
            [views["global"], views["local"]],
            masks_GBHW=on(device, masks.swapaxes(0, 1)),
            tokens_M=_places(masks, device),
        )
        terms = {"view_loss": self._cross_view(outputs["scores"], targets)}
        terms["patch_loss"] = masked_patch_loss(
            targets.patches_MK.probabilities(),
            F.log_softmax(outputs["patch_scores"].float() / self.student_temperature, dim=-1),
            on(device, _weights(masks)),
            images=masks.shape[0] * masks.shape[1],
        )
        loss = terms["view_loss"] + self.patch_weight * terms["patch_loss"]
        if self.spread["kind"] != "none":
            terms["spread_loss"] = sum(self._spread(features_BD) for features_BD in outputs["features"])
            loss = loss + self.spread["weight"] * terms["spread_loss"]
        return {"loss": loss} | {name: term.detach() for name, term in terms.items()} | targets.terms

    def after_step(self, values: dict[str, float]) -> None:
        super().after_step(values)
        self.patch_centring.after_step()

    def _spread(self, features_BD: torch.Tensor) -> torch.Tensor:
        group = self.spread["group"]
        if self.spread["kind"] == "kde":
            return kde(features_BD, group, self.spread["concentration"])
        return koleo(features_BD, group)

    def _masks(self, views: Views) -> np.ndarray:
        """(B, G, H, W): which patches of the global views the student does not see, a function of the views' seeds alone."""
        patch_px = self.student.encoder.patch_embed.patch_size
        rows, columns = (side // px for side, px in zip(views["global"].shape[-2:], patch_px, strict=True))
        return block_masks(views["seeds"], len(views["global"]), rows, columns, self.mask_probability, self.mask_ratio)


def _places(masks_BGHW: np.ndarray, device: torch.device) -> torch.Tensor:
    """(M,) the masked tokens as places in (G, B, N), in the order of the masks."""
    batch, _, rows, columns = masks_BGHW.shape
    b, g, h, w = np.nonzero(masks_BGHW)
    return on(device, ((g * batch + b) * rows + h) * columns + w)


def _weights(masks_BGHW: np.ndarray) -> np.ndarray:
    """(M,) float32: one over the masked tokens of each token's own image."""
    counts_BG = masks_BGHW.sum(axis=(2, 3))
    return np.repeat(1 / np.maximum(counts_BG, 1), counts_BG.ravel()).astype(np.float32)
