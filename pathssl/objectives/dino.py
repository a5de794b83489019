"""DINO: self-distillation with no labels (Caron et al. 2021, arXiv 2104.14294).

Axes: G global views, L local views, V = G + L, B patches, K prototypes, D features.
"""

import copy

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from pathssl.models.head import DINOHead
from pathssl.objectives.teacher import move_teacher
from pathssl.schedules import linear


class DINO(nn.Module):
    """Holds student and teacher (encoder and head each) and the centre.

    `forward(views, values)` takes {"global": (G, B, 3, H, W), "local": (L, B, 3, h, w)} and {"progress": fraction of training done};
    it gives {"loss": scalar with gradient, other terms without}. `after_step(values)` moves the teacher by values["teacher_momentum"]
    and the centre by `centre_momentum`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        out_dim: int,
        hidden_dim: int,
        bottleneck_dim: int,
        head_layers: int,
        norm_last_layer: bool,
        student_temperature: float,
        teacher_temperature: float,
        warmup_teacher_temperature: float,
        warmup_teacher_fraction: float,
        centre_momentum: float,
    ):
        super().__init__()
        head = DINOHead(
            encoder.num_features,
            out_dim=out_dim,
            hidden_dim=hidden_dim,
            bottleneck_dim=bottleneck_dim,
            layers=head_layers,
            norm_last_layer=norm_last_layer,
        )
        self.student = nn.ModuleDict({"encoder": encoder, "head": head})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.warmup_teacher_fraction = warmup_teacher_fraction
        self.centre_momentum = centre_momentum
        self.register_buffer("centre", torch.zeros(out_dim))
        self.register_buffer("batch_centre", torch.zeros(out_dim), persistent=False)

    def train(self, mode: bool = True) -> "DINO":
        super().train(mode)
        self.teacher.eval()  # stochastic depth is the student's alone
        return self

    def last_layer(self) -> list[nn.Parameter]:
        """The prototypes, which are frozen during the first steps."""
        head = self.student["head"]
        return [head.prototypes] + ([] if head.lengths is None else [head.lengths])

    def forward(self, views: dict[str, torch.Tensor], values: dict[str, float]) -> dict[str, torch.Tensor]:
        temperature = linear(
            self.warmup_teacher_temperature, self.teacher_temperature, self.warmup_teacher_fraction, values["progress"]
        )
        with torch.no_grad():
            teacher_GBK = self._scores(self.teacher, [views["global"]]).float()
            self.batch_centre = teacher_GBK.mean(dim=(0, 1))
            targets_GBK = F.softmax((teacher_GBK - self.centre) / temperature, dim=-1)
        student_VBK = self._scores(self.student, [views["global"], views["local"]]).float()
        loss = cross_view_loss(targets_GBK, F.log_softmax(student_VBK / self.student_temperature, dim=-1))
        with torch.no_grad():
            entropy = -(targets_GBK * targets_GBK.clamp_min(1e-12).log()).sum(-1).mean()
            mean_target = targets_GBK.mean(dim=(0, 1))
            batch_entropy = -(mean_target * mean_target.clamp_min(1e-12).log()).sum()
        # teacher_entropy near 0 or ln K, or batch_entropy near 0, are the two ways to collapse.
        return {"loss": loss, "teacher_entropy": entropy, "batch_entropy": batch_entropy}

    def after_step(self, values: dict[str, float]) -> None:
        move_teacher(self.teacher, self.student, values["teacher_momentum"])
        self.centre.lerp_(self.batch_centre, 1 - self.centre_momentum)

    @staticmethod
    def _scores(network: nn.ModuleDict, view_sets: list[torch.Tensor]) -> torch.Tensor:
        """(V, B, K) prototype scores of all views; views of one size pass through the encoder together."""
        batch = view_sets[0].shape[1]
        features = [network["encoder"](rearrange(v, "v b c h w -> (v b) c h w")) for v in view_sets if len(v)]
        return rearrange(network["head"](torch.cat(features)), "(v b) k -> v b k", b=batch)


def cross_view_loss(targets_GBK: torch.Tensor, log_probabilities_VBK: torch.Tensor) -> torch.Tensor:
    """The mean over pairs (teacher view g, student view v != g) and patches of -sum_k target_gk log p_vk (equation 1 and 2).

    The first G student views are the teacher's. The sum over all pairs is taken as one product of sums, less the pairs g = v.
    """
    n_global, n_views = len(targets_GBK), len(log_probabilities_VBK)
    all_pairs = (targets_GBK.sum(0) * log_probabilities_VBK.sum(0)).sum(-1)
    same_view = (targets_GBK * log_probabilities_VBK[:n_global]).sum(-1).sum(0)
    return -(all_pairs - same_view).mean() / (n_global * (n_views - 1))
