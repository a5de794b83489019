"""Sinkhorn-Knopp: targets that use all prototypes alike (Cuturi 2013; Caron et al. 2020, SwAV, arXiv 2006.09882; DINOv2).

Axes: R rows (views or tokens) of this process, K prototypes.
"""

import math

import torch

from pathssl.distributed import max_, sum_
from pathssl.objectives.soft_targets import SoftTargets, at_least_fp32, blocks


@torch.no_grad()
def sinkhorn(scores_RK: torch.Tensor, temperature: float, iterations: int) -> SoftTargets:
    """Targets whose rows sum to 1, and whose columns, over the rows of all processes, come near (all rows) / K.

    exp(scores / temperature) with columns, then rows, divided by their sums, `iterations` times (at least 1); factors common to all
    columns or rows (SwAV's 1/K and 1/B) cancel. A row divided by its sum is a softmax, so that all there is to find are the logarithms of
    the columns' factors, few rows at a time. Every process calls it, with however few rows: it communicates 1 + `iterations` times.

    In the first pass the sum of a column is taken in logarithms. From it on each row sums to 1 and no column to less than 1/K, then each
    column to 1 and no row to less than 1/(all rows), so that neither overflow nor 0/0 can happen, whatever the scores and the temperature.
    """
    dtype = at_least_fp32(scores_RK.dtype)
    highest_K = scores_RK.amax(0) if len(scores_RK) else scores_RK.new_full(scores_RK.shape[1:], -math.inf)
    shift_K = max_(highest_K.to(dtype)) / -temperature
    sums_K = torch.zeros_like(shift_K)
    for rows_RK in blocks(scores_RK):
        sums_K += torch.add(shift_K, rows_RK, alpha=1 / temperature).exp_().sum(0)
    shift_K -= sum_(sums_K).log_()
    for _ in range(iterations - 1):
        sums_K = torch.zeros_like(shift_K)
        for targets_RK in SoftTargets(scores_RK, shift_K, temperature).blocks():
            sums_K += targets_RK.sum(0)
        shift_K -= sum_(sums_K).log_()
    return SoftTargets(scores_RK, shift_K, temperature)
