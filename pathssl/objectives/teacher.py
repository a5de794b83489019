"""The teacher: an exponential moving average of the student."""

import torch
from torch import nn


@torch.no_grad()
def move_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, parameter by parameter, in place."""
    mine, theirs = list(teacher.parameters()), list(student.parameters())
    torch._foreach_lerp_(mine, theirs, 1 - momentum)
