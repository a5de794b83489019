"""The same bits each time, on GPUs too."""

import os
from collections.abc import Sequence

import torch
from einops import einsum

_KERNELS = torch.library.Library("aten", "IMPL")
_GRADIENT = "_upsample_bicubic2d_aa_backward"
_registered: set[str] = set()


def deterministic(on: bool) -> None:
    """From here on kernels give the same bits each time; one that cannot raises a RuntimeError that `no_such_kernel` explains."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        resampling_has_a_deterministic_gradient("CUDA")
    # Not with warn_only: it leaves the gradients of fused attention as they are by default, which is not deterministic.
    torch.use_deterministic_algorithms(on)
    # A debugger's aid that takes a few percent of a step's time: torch would write NaN into all new memory.
    torch.utils.deterministic.fill_uninitialized_memory = False


def no_such_kernel(error: BaseException) -> str | None:
    """The sentence for an error that says that a kernel has no deterministic form; None for other errors."""
    if "does not have a deterministic implementation" not in str(error):
        return None
    first = str(error).strip().partition(", but you set")[0]
    return f"{first}. train.deterministic=false goes on without it: the run then does not resume to the same bits."


def resampling_has_a_deterministic_gradient(device: str) -> None:
    """Gives `device` ("CUDA", "CPU") a gradient of resampled position embeddings that sums in the same order each time.

    Every view that is not of the encoder's own size has them resampled, and torch's kernel for GPUs adds in any order.
    """
    if device not in _registered:
        _registered.add(device)
        _KERNELS.impl(_GRADIENT, resampled_gradient, device)


def resampled_gradient(
    gradient_BDHW: torch.Tensor,
    output_size: Sequence[int],
    input_size: Sequence[int],
    align_corners: bool,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> torch.Tensor:
    """(B, D, h, w): the gradient of the image of input_size (B, D, h, w), for torch's antialiased bicubic resampling to output_size (H, W).

    Resampling is R x C^T with a matrix for the rows and one for the columns; its gradient is R^T g C.
    """
    rows_Hh = _matrix(input_size[2], output_size[0], align_corners, scales_h, gradient_BDHW)
    columns_Ww = _matrix(input_size[3], output_size[1], align_corners, scales_w, gradient_BDHW)
    return einsum(rows_Hh, gradient_BDHW, columns_Ww, "i h, b d i j, j w -> b d h w")


def _matrix(before: int, after: int, align_corners: bool, scale: float | None, like: torch.Tensor) -> torch.Tensor:
    """(after, before): what resampling makes of the rows of an identity."""
    identity = torch.eye(before, dtype=like.dtype, device=like.device)[None, None]
    resampled = torch.ops.aten._upsample_bicubic2d_aa(identity, [after, before], align_corners, scale, None)
    return resampled[0, 0]
