"""The teacher: an exponential moving average of the student."""

import torch
from torch import nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def move_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, parameter by parameter, in place.

    Where both are sharded alike, each process moves its own part.
    """
    torch._foreach_lerp_(_own(teacher), _own(student), 1 - momentum)


def _own(network: nn.Module) -> list[torch.Tensor]:
    return [p.to_local() if isinstance(p, DTensor) else p for p in network.parameters()]
