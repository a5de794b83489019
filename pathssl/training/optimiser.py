"""The optimiser as DINO and DINOv2 use it: groups with their own decay and learning rate, schedules set from outside, clipping."""

import re
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.training.parallel import local, norms


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


def create_optimiser(
    make: Callable[..., torch.optim.Optimizer], student: nn.Module, *, layer_decay: float, patch_embed_lr: float
) -> torch.optim.Optimizer:
    """make(groups, lr=, weight_decay=) of the student's parameters.

    Tensors of one axis (biases, norms, layer scales) are not decayed. The learning rate of a parameter is the schedule's times
    layer_decay^(layers above it), the embeddings being layer 0 and block i layer i + 1 (as BEiT and DINOv2), and the patch embedding's
    once more times patch_embed_lr.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    depth = len(getattr(student.encoder, "blocks", ()))
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            scale = layer_decay ** (depth + 1 - _layer(name, depth))
            scale *= patch_embed_lr if ".patch_embed." in name else 1.0
            groups[scale, parameter.ndim > 1].append(parameter)
    settings = [
        {"params": found, "lr_scale": scale, "decayed": decayed} for (scale, decayed), found in sorted_items(groups)
    ]
    # The fused kernels of torch's own optimisers are for GPUs.
    fused = {"fused": True} if next(student.parameters()).is_cuda and make.func.__module__.startswith("torch.") else {}
    return make(settings, lr=0.0, weight_decay=0.0, **fused)


def sorted_items(groups: dict) -> list:
    """Those of the highest learning rate first, decayed ones first."""
    return sorted(groups.items(), key=lambda item: item[0], reverse=True)


def _layer(name: str, depth: int) -> int:
    """0 for the embeddings and tokens, i + 1 for block i, depth + 1 for what comes after."""
    block = re.match(r"encoder\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    if name == "mask_token" or re.match(r"encoder\.(patch_embed|pos_embed|cls_token|reg_token|norm_pre)", name):
        return 0
    return depth + 1


def set_rates(optimiser: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], max_norm: float | None, rule: str) -> torch.Tensor:
    """The norm of the whole gradient before clipping; then it is cut to `max_norm`: "parameter" by parameter, as DINO does, or "global"."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    of_each = norms(gradients)
    of_all = torch.stack(of_each).norm()
    if max_norm is not None:
        of_each = of_each if _known(rule, ["parameter", "global"], "optim.clip_rule") == "parameter" else [of_all]
        factors = [(max_norm / (norm + 1e-6)).clamp(max=1.0) for norm in of_each]
        torch._foreach_mul_(
            [local(gradient) for gradient in gradients], factors * (1 if len(factors) > 1 else len(gradients))
        )
    return of_all
