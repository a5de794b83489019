"""What keeps the teacher from one answer to everything: a moving centre (DINO) or Sinkhorn-Knopp (SwAV, DINOv2).

`targets(scores_RK, temperature)` gives the targets of this process's share of a step's rows, once a step; R may differ among processes
and be 0. `after_step()` follows the step. Axes: R rows (views or tokens), K prototypes.
"""

import torch
from torch import nn

from pathssl.distributed import sum_
from pathssl.errors import UserError
from pathssl.objectives.sinkhorn import sinkhorn
from pathssl.objectives.soft_targets import SoftTargets, at_least_fp32, blocks


class MovingCentre(nn.Module):
    """softmax((scores - centre) / temperature); the centre follows the mean score (Caron et al. 2021, equation 4)."""

    def __init__(self, out_dim: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(out_dim))
        self.batch_mean: torch.Tensor | None = None

    @torch.no_grad()
    def targets(self, scores_RK: torch.Tensor, temperature: float) -> SoftTargets:
        """Remembers the mean over the rows of all processes, too."""
        dtype = at_least_fp32(scores_RK.dtype)
        total = torch.zeros(scores_RK.shape[1] + 1, dtype=dtype, device=scores_RK.device)
        total[-1] = len(scores_RK)
        for rows_RK in blocks(scores_RK):
            total[:-1] += rows_RK.sum(0, dtype=dtype)
        total = sum_(total)
        # Where no process has a row the centre stays; as torch.where, for a device need not be asked.
        self.batch_mean = torch.where(total[-1] > 0, total[:-1] / total[-1].clamp_min(1), self.centre)
        return SoftTargets(scores_RK, self.centre.to(dtype, copy=True) / -temperature, temperature)

    @torch.no_grad()
    def after_step(self) -> None:
        """centre <- momentum * centre + (1 - momentum) * mean of the step's rows."""
        if self.batch_mean is not None:
            self.centre.lerp_(self.batch_mean.to(self.centre.dtype), 1 - self.momentum)
            self.batch_mean = None


class SinkhornKnopp(nn.Module):
    """Probabilities by `sinkhorn` over the rows of all processes; nothing moves."""

    def __init__(self, iterations: int):
        super().__init__()
        if iterations < 1:
            raise UserError(f"Sinkhorn-Knopp was given {iterations} iterations; it needs at least 1 (DINOv2 takes 3).")
        self.iterations = iterations

    def targets(self, scores_RK: torch.Tensor, temperature: float) -> SoftTargets:
        return sinkhorn(scores_RK, temperature, self.iterations)

    def after_step(self) -> None:
        """Nothing: the targets depend on the step's scores alone."""
