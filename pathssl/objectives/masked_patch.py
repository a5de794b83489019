"""iBOT's loss: the student names the tokens it was not shown (Zhou et al. 2022, arXiv 2111.07832; weights as in DINOv2).

Axes: M masked tokens of all images, K prototypes.
"""

import torch


def masked_patch_loss(
    targets_MK: torch.Tensor, log_probabilities_MK: torch.Tensor, weights_M: torch.Tensor, images: int
) -> torch.Tensor:
    """-sum_m weights_m sum_k target_mk log p_mk / images, with weights_m = 1 / (masked tokens of m's image); sums are at least fp32.

    `images` counts masked and whole images alike, so that an image weighs the same whatever else is masked in its batch.
    M may be 0: the loss is then 0 and its gradient is zeros, not nothing, which keeps the processes' reductions of gradients in step.
    """
    targets_MK = targets_MK.to(torch.promote_types(targets_MK.dtype, torch.float32))
    log_probabilities_MK = log_probabilities_MK.to(targets_MK.dtype)
    cross_entropy_M = -(targets_MK * log_probabilities_MK).sum(-1)
    return (weights_M.to(targets_MK.dtype) * cross_entropy_M).sum() / images
