"""The bare model: what a step cannot do without, written as a plain loop of its own, without a line of ours around it.

Forward and backward pass of student and teacher, the losses of DINO (Caron et al. 2021) and DINOv2 (Oquab et al. 2023), centring, the
optimiser and the moving average, on views and masks that are there already. No clipping, no schedules, no entropies, no checks.
Axes: G global views, V = all views, B patches, N tokens of an image, M masked tokens, K prototypes, D features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pathssl.bench.packed import packed_features


@dataclass(frozen=True)
class Prepared:
    """Views on their device, (G or L, B, 3, H, W), and for DINOv2 which tokens of the global views are masked, (G, B, H, W)."""

    global_views: torch.Tensor
    local_views: torch.Tensor
    masks: torch.Tensor | None


class Bare:
    """Trains `student` and `teacher`, which have an `encoder`, a `head`, a `patch_head` and a `mask_token` or None of them.

    settings: the objective's block of the config.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        prepared: Prepared,
        settings: Mapping[str, Any],
        make_optimiser: Callable[..., torch.optim.Optimizer],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        progress: float,
        autocast: Any,
    ):
        self.student, self.teacher, self.prepared, self.settings = student, teacher, prepared, settings
        self.momentum, self.autocast = momentum, autocast
        matrices = [p for p in student.parameters() if p.ndim > 1]
        vectors = [p for p in student.parameters() if p.ndim <= 1]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimiser = make_optimiser(groups, lr=lr, weight_decay=weight_decay)
        warm = min(1.0, progress / settings["warmup_teacher_fraction"]) if settings["warmup_teacher_fraction"] else 1.0
        first, last = settings["warmup_teacher_temperature"], settings["teacher_temperature"]
        self.temperature = first + warm * (last - first)
        self.centres: dict[str, torch.Tensor] = {}
        if prepared.masks is not None:
            flat = prepared.masks.flatten(2)
            self.masked = flat.flatten().nonzero()[:, 0]
            counts = flat.sum(-1, keepdim=True)
            self.weights = (1 / counts.clamp_min(1)).expand(flat.shape).flatten()[self.masked]

    def step(self) -> torch.Tensor:
        with self.autocast:
            loss = self._dino() if self.prepared.masks is None else self._dinov2()
        loss.backward()
        self._clip()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for own, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                own.mul_(self.momentum).add_(new.detach(), alpha=1 - self.momentum)
        return loss.detach()

    def _clip(self) -> None:
        """Not here."""

    def _features(self, sets: list[torch.Tensor]) -> torch.Tensor:
        """CLS of the student."""
        return torch.cat([self.student.encoder(images) for images in sets])

    def _dino(self) -> torch.Tensor:
        views, small = self.prepared.global_views, self.prepared.local_views
        with torch.no_grad():
            targets = self._targets("views", self.teacher.head(self.teacher.encoder(views.flatten(0, 1))))
        features = self._features([images.flatten(0, 1) for images in (views, small) if len(images)])
        return self._of_views(targets, self.student.head(features))

    def _dinov2(self) -> torch.Tensor:
        views, small, masks = self.prepared.global_views, self.prepared.local_views, self.prepared.masks
        images = views.flatten(0, 1)
        with torch.no_grad():
            cls, tokens = _tokens(self.teacher, images, None)
            scores, patch_scores = self._heads(self.teacher, cls, tokens)
            targets, patch_targets = self._targets("views", scores), self._targets("patches", patch_scores)
        cls, tokens = _tokens(self.student, images, masks.flatten(0, 1))
        features = [cls] + ([self.student.encoder(small.flatten(0, 1))] if len(small) else [])
        scores, patch_scores = self._heads(self.student, torch.cat(features), tokens)
        loss = self._of_views(targets, scores)
        log_p = F.log_softmax(patch_scores.float() / self.settings["student_temperature"], dim=-1)
        of_patches = -((patch_targets * log_p).sum(-1) * self.weights).sum() / len(images)
        loss = loss + self.settings["patch_weight"] * of_patches
        spread = self.settings["spread"]
        if spread["kind"] != "none":
            loss = loss + spread["weight"] * sum(_spread(view, spread) for view in cls.chunk(len(views)))
        return loss

    def _heads(self, network: nn.Module, cls: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = tokens.flatten(0, 1)[self.masked]
        if network.patch_head is not None:
            return network.head(cls), network.patch_head(tokens)
        return network.head(torch.cat((cls, tokens))).split((len(cls), len(tokens)))

    def _targets(self, kind: str, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float()
        if self.settings["centring"] == "sinkhorn":
            return _sinkhorn(scores, self.temperature, self.settings["sinkhorn_iterations"])
        centre = self.centres.setdefault(kind, torch.zeros_like(scores[0]))
        targets = F.softmax((scores - centre) / self.temperature, dim=-1)
        share = self.settings["centre_momentum"]
        self.centres[kind] = centre * share + scores.mean(0) * (1 - share)
        return targets

    def _of_views(self, targets: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """-sum_k t log p, the mean over patches and pairs of different views: all pairs in one product."""
        batch = self.prepared.global_views.shape[1]
        log_p = F.log_softmax(scores.float() / self.settings["student_temperature"], dim=-1)
        pairs = targets.view(len(targets) // batch, -1) @ log_p.view(len(log_p) // batch, -1).T
        return -(pairs.sum() - pairs.diagonal().sum()) / (batch * (pairs.numel() - len(pairs)))


class Published(Bare):
    """The same as DINO's public code writes it: a loss for each pair of views, and each parameter clipped once the host knows its norm."""

    clip_grad = 3.0

    def step(self) -> torch.Tensor:
        loss = super().step()
        self.said = loss.item()  # logged at every step
        return loss

    def _clip(self) -> None:
        for parameter in self.student.parameters():
            if parameter.grad is not None and (factor := self.clip_grad / (parameter.grad.norm() + 1e-6)) < 1:
                parameter.grad.mul_(factor)

    def _of_views(self, targets: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        batch, temperature = self.prepared.global_views.shape[1], self.settings["student_temperature"]
        losses = [
            -(target * F.log_softmax(view.float() / temperature, dim=-1)).sum(-1).mean()
            for g, target in enumerate(targets.split(batch))
            for v, view in enumerate(scores.split(batch))
            if v != g
        ]
        return sum(losses) / len(losses)


class Packed(Bare):
    """DINO's views of both sizes in one pass of the student."""

    def _features(self, sets: list[torch.Tensor]) -> torch.Tensor:
        return packed_features(self.student.encoder, sets)


def _tokens(network: nn.Module, images: torch.Tensor, masks: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(CLS, patch tokens) after the last norm; timm's own forward pass with masked patches replaced (BEiT, iBOT)."""
    vit = network.encoder
    x = vit.patch_embed(images)
    if masks is not None:
        x = torch.where(masks[..., None], network.mask_token.to(x.dtype), x)
    x = vit.norm(vit.blocks(vit.norm_pre(vit.patch_drop(vit._pos_embed(x)))))
    return x[:, 0], x[:, vit.num_prefix_tokens :]


def _sinkhorn(scores: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    q = torch.exp((scores - scores.max()) / temperature)
    for _ in range(iterations):
        q /= q.sum(0)
        q /= q.sum(1, keepdim=True)
    return q


def _spread(features: torch.Tensor, settings: Mapping[str, Any]) -> torch.Tensor:
    """KoLeo (Sablayrolles et al. 2019) or the KDE (Wang and Isola 2020), within groups."""
    x = F.normalize(features.float(), dim=-1).view(-1, settings["group"], features.shape[-1])
    itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        cosines = x @ x.mT
        if settings["kind"] == "kde":
            logits = (settings["concentration"] * cosines).masked_fill(itself, -torch.inf)
            return (logits.logsumexp(-1) - torch.tensor(x.shape[1] - 1.0).log()).mean()
        nearest = cosines.detach().masked_fill(itself, -2.0).argmax(-1)
        others = x.gather(1, nearest[..., None].expand_as(x))
        return -torch.log((x - others).norm(dim=-1) + 1e-8).mean()
