"""AdamW as DINO and DINOv2 use it."""

import torch
from torch import nn

from pathssl.errors import UserError


def learning_rate(base_lr: float, size: int, reference: int, rule: str) -> float:
    """base_lr, meant at `reference` patches a step, at `size`: linear (Goyal et al. 2017), sqrt (as DINOv2), or unchanged."""
    scale = {"linear": size / reference, "sqrt": (size / reference) ** 0.5, "none": 1.0}
    return base_lr * scale[_known(rule, list(scale), "batch.lr_rule")]


def teacher_momentum(momentum: float, size: int, reference: int, rule: str) -> float:
    """momentum^(size/reference), so that the teacher averages over as many patches at any batch (Busbridge et al. 2023)."""
    scale = {"power": momentum ** (size / reference), "none": momentum}
    return scale[_known(rule, list(scale), "batch.momentum_rule")]


def _known(rule: str, rules: list[str], key: str) -> str:
    if rule not in rules:
        raise UserError(f"{key}={rule} is not one of {', '.join(rules)}.")
    return rule


def create_optimiser(student: nn.Module, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW with two groups: "decay", and "no_decay" for biases and norms (every tensor of one axis)."""
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "decayed": True},
        {"params": [p for p in trained if p.ndim <= 1], "decayed": False},
    ]
    fused = all(parameter.is_cuda for parameter in trained)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, weight_decay=0.0, fused=fused)


def set_rates(optimiser: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], max_norm: float | None) -> torch.Tensor:
    """The norm of the whole gradient before clipping; each parameter's own gradient is then cut to `max_norm`, as DINO does."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    if max_norm is not None:
        torch._foreach_mul_(gradients, [(max_norm / (norm + 1e-6)).clamp(max=1.0) for norm in norms])
    return torch.stack(norms).norm()
