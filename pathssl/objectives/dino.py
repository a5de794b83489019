"""DINO: self-distillation with no labels (Caron et al. 2021, arXiv 2104.14294).

Axes: G global views, L local views, V = G + L, B patches, N tokens of an image, M masked tokens, K prototypes.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pathssl.distributed import sum_
from pathssl.errors import UserError
from pathssl.models.head import DINOHead
from pathssl.models.network import Network
from pathssl.objectives.centring import MovingCentre, SinkhornKnopp
from pathssl.objectives.cross_view import cross_view_loss
from pathssl.objectives.soft_targets import SoftTargets
from pathssl.objectives.teacher import move_teacher
from pathssl.schedules import linear

Views = dict[str, torch.Tensor | np.ndarray]
Terms = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Targets:
    """What the teacher asks of the student, for patches of this process, and `terms` that tell how it does.

    views_GBK: targets of the global views. masks_BGHW: patches masked from the student. patches_MK: their targets, in the order of
    masks_BGHW.
    """

    views_GBK: SoftTargets
    terms: Terms
    masks_BGHW: np.ndarray | None = None
    patches_MK: SoftTargets | None = None

    def of(self, rows: slice) -> "Targets":
        """Those of the patches `rows`."""
        if self.masks_BGHW is None:
            return Targets(self.views_GBK[:, rows], self.terms)
        before, inside = (int(self.masks_BGHW[part].sum()) for part in (slice(0, rows.start), rows))
        return Targets(
            self.views_GBK[:, rows], self.terms, self.masks_BGHW[rows], self.patches_MK[before : before + inside]
        )


class DINO(nn.Module):
    """Holds student and teacher (encoder and head each) and the centring of the teacher's scores.

    Views are {"global": (G, B, 3, H, W), "local": (L, B, 3, h, w), "seeds": (B,) uint64}, values {"progress": fraction of training done,
    "teacher_momentum"}. A step is `targets` of all patches of this process, `losses` of each micro-batch, and `after_step`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        out_dim: int,
        hidden_dim: int,
        bottleneck_dim: int,
        head_layers: int,
        head_batch_norm: bool,
        norm_last_layer: bool,
        student_temperature: float,
        teacher_temperature: float,
        warmup_teacher_temperature: float,
        warmup_teacher_fraction: float,
        centring: str,
        centre_momentum: float,
        sinkhorn_iterations: int,
    ):
        super().__init__()
        self._head = {
            "hidden_dim": hidden_dim,
            "layers": head_layers,
            "batch_norm": head_batch_norm,
            "norm_last_layer": norm_last_layer,
        }
        self._centring = centring, centre_momentum, sinkhorn_iterations
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.warmup_teacher_fraction = warmup_teacher_fraction
        self.student = self._network(encoder, out_dim, bottleneck_dim)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.centring = self._new_centring(out_dim)
        self.run_through(self.student)

    def _network(self, encoder: nn.Module, out_dim: int, bottleneck_dim: int) -> Network:
        return Network(encoder, self._new_head(encoder, out_dim, bottleneck_dim), None, masked=False)

    def _new_head(self, encoder: nn.Module, out_dim: int, bottleneck_dim: int) -> DINOHead:
        return DINOHead(encoder.num_features, out_dim=out_dim, bottleneck_dim=bottleneck_dim, **self._head)

    def _new_centring(self, out_dim: int) -> nn.Module:
        kind, momentum, iterations = self._centring
        if kind not in ("centre", "sinkhorn"):
            raise UserError(f"objective.centring={kind} is not one of centre, sinkhorn.")
        return MovingCentre(out_dim, momentum) if kind == "centre" else SinkhornKnopp(iterations)

    def run_through(self, wrapped: Callable[..., Terms]) -> None:
        """Calls the student through `wrapped`, as data parallelism asks for."""
        self._wrapped = (wrapped,)  # in a tuple, which does not make it a second student of this module

    def train(self, mode: bool = True) -> "DINO":
        super().train(mode)
        self.teacher.eval()  # stochastic depth is the student's alone
        return self

    def prototypes(self) -> dict[str, int]:
        """{prefix of the terms of a set of targets: its prototypes}."""
        return {"": len(self.student.head.prototypes)}

    @torch.no_grad()
    def targets(self, views: Views, values: dict[str, float], micro_batch: int) -> Targets:
        """The targets of all patches, which pass through the teacher `micro_batch` at a time."""
        scores = [self.teacher([views["global"][:, rows]])["scores"] for rows in slices(views, micro_batch)]
        return Targets(*self._centred(torch.cat(scores, dim=1), values, self.centring))

    def losses(self, views: Views, targets: Targets) -> Terms:
        """The "loss" of a micro-batch, with gradient, and its other terms, without; the mean over micro-batches is the step's."""
        student_VBK = self._wrapped[0]([views["global"], views["local"]])["scores"]
        return {"loss": self._cross_view(student_VBK, targets)} | targets.terms

    def after_step(self, values: dict[str, float]) -> None:
        """Moves the teacher by values["teacher_momentum"], and the centre."""
        move_teacher(self.teacher, self.student, values["teacher_momentum"])
        self.centring.after_step()

    def _cross_view(self, student_VBK: torch.Tensor, targets: Targets) -> torch.Tensor:
        log_probabilities_VBK = F.log_softmax(student_VBK.float() / self.student_temperature, dim=-1)
        return cross_view_loss(targets.views_GBK.probabilities(), log_probabilities_VBK)

    def _centred(
        self, scores: torch.Tensor, values: dict[str, float], centring: nn.Module
    ) -> tuple[SoftTargets, Terms]:
        """The targets for scores of any shape (..., K), and their entropies in nats.

        teacher_entropy near 0 or ln K, or batch_entropy (that of the mean target of the whole batch) near 0, are the ways to collapse.
        """
        temperature = linear(
            self.warmup_teacher_temperature, self.teacher_temperature, self.warmup_teacher_fraction, values["progress"]
        )
        targets = centring.targets(scores.flatten(0, -2), temperature)
        # The sum of all targets, of their entropies, and how many they are.
        sums = targets.shift_K.new_zeros(scores.shape[-1] + 2)
        sums[-1] = scores.numel() // scores.shape[-1]
        for targets_RK in targets.blocks():
            sums[:-2] += targets_RK.sum(0)
            sums[-2] += entropy(targets_RK).sum()
        sums = sum_(sums)
        means = sums[:-1] / sums[-1].clamp_min(1)
        return targets.view(*scores.shape), {"teacher_entropy": means[-1], "batch_entropy": entropy(means[:-1])}


def slices(views: Views, size: int) -> list[slice]:
    """The patches of `views` in parts of `size`."""
    return [slice(start, start + size) for start in range(0, views["global"].shape[1], size)]


def rows_of(views: Views, rows: slice) -> Views:
    """The views of the patches `rows`."""
    return {name: view[rows] if name == "seeds" else view[:, rows] for name, view in views.items()}


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """-sum_k p ln p over the last axis, in nats."""
    return torch.special.entr(probabilities).sum(-1)
