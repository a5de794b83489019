"""Sinkhorn-Knopp: targets that use all prototypes alike (Cuturi 2013; Caron et al. 2020, SwAV, arXiv 2006.09882; DINOv2).

Axes: R rows (views or tokens) of this process, K prototypes.
"""

import math

import torch

from pathssl.distributed import max_, sum_


@torch.no_grad()
def sinkhorn(scores_RK: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    """(R, K) probabilities, at least fp32: rows sum to 1, and columns, over the rows of all processes, come near (all rows) / K.

    exp(scores / temperature) with columns, then rows, divided by their sums, `iterations` times (at least 1); factors common to all
    columns or rows (SwAV's 1/K and 1/B) cancel. Every process calls it, with however few rows: it communicates 1 + `iterations` times.

    The first pass is taken in logarithms. From it on each row sums to 1 and no column to less than 1/K, then each column to 1 and no
    row to less than 1/(all rows), so that neither overflow nor 0/0 can happen, whatever the scores and the temperature.
    """
    logits_RK = scores_RK.to(torch.promote_types(scores_RK.dtype, torch.float32)) / temperature
    highest_K = logits_RK.amax(0) if len(logits_RK) else logits_RK.new_full(logits_RK.shape[1:], -math.inf)
    logits_RK -= max_(highest_K)
    logits_RK -= sum_(logits_RK.exp().sum(0)).log()
    targets_RK = logits_RK.softmax(-1)
    for _ in range(iterations - 1):
        targets_RK /= sum_(targets_RK.sum(0))
        targets_RK /= targets_RK.sum(-1, keepdim=True)
    return targets_RK
