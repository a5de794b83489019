"""DINO's loss: every student view predicts what the teacher saw in another view (Caron et al. 2021, arXiv 2104.14294).

Axes: G global views, V = all views, B patches, K prototypes.
"""

import torch


def cross_view_loss(targets_GBK: torch.Tensor, log_probabilities_VBK: torch.Tensor) -> torch.Tensor:
    """The mean over pairs (teacher view g, student view v != g) and patches of -sum_k target_gk log p_vk (equation 3).

    The first G student views are the teacher's. The sum over all pairs is taken as one product of sums, less the pairs g = v.
    Sums are at least fp32.
    """
    targets_GBK = targets_GBK.to(torch.promote_types(targets_GBK.dtype, torch.float32))
    log_probabilities_VBK = log_probabilities_VBK.to(targets_GBK.dtype)
    n_global, n_views = len(targets_GBK), len(log_probabilities_VBK)
    all_pairs = (targets_GBK.sum(0) * log_probabilities_VBK.sum(0)).sum(-1)
    same_view = (targets_GBK * log_probabilities_VBK[:n_global]).sum(-1).sum(0)
    return -(all_pairs - same_view).mean() / (n_global * (n_views - 1))
