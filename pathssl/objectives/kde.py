"""KDE: spreads features by lowering the density at each of them (Karasikov et al. 2025, Midnight, arXiv 2504.05186).

The density is the von Mises-Fisher kernel estimate of Wang & Isola 2020 (arXiv 2005.10242).
Axes: B patches, D features; n groups of g patches.
"""

import math

import torch
from einops import einsum

from pathssl.objectives.koleo import unit_groups


def kde(features_BD: torch.Tensor, group: int, concentration: float) -> torch.Tensor:
    """mean_i log(1 / (g - 1) sum_{j != i} exp(concentration x_i . x_j)), x the rows at unit length, j in i's group of `group` rows.

    It is the log density itself that is minimised: a collapsed batch has the highest, `concentration`. At least fp32, under autocast too.
    """
    with torch.autocast(features_BD.device.type, enabled=False):
        x_ngD = unit_groups(features_BD, group)
        exponents = concentration * einsum(x_ngD, x_ngD, "n i d, n j d -> n i j")
        oneself = torch.eye(group, dtype=torch.bool, device=exponents.device)
        return exponents.masked_fill(oneself, -math.inf).logsumexp(-1).mean() - math.log(group - 1)
