"""KoLeo: spreads features by pushing nearest neighbours apart (Sablayrolles et al. 2019, arXiv 1806.03198; DINOv2).

Axes: B patches, D features; n groups of g patches.
"""

import torch
import torch.nn.functional as F
from einops import einsum, rearrange

from pathssl.errors import UserError

EPSILON = 1e-8  # of distance, as in DINOv2: bounds the loss where two rows are the same


def koleo(features_BD: torch.Tensor, group: int) -> torch.Tensor:
    """-mean_i log(min_{j != i} |x_i - x_j| + epsilon), x the rows at unit length, j in i's group of `group` consecutive rows.

    At least fp32, under autocast too. Rows that are the same have a finite loss and pull in no direction.
    """
    with torch.autocast(features_BD.device.type, enabled=False):
        x_ngD = unit_groups(features_BD, group)
        with torch.no_grad():
            cosines = einsum(x_ngD, x_ngD, "n i d, n j d -> n i j")
            nearest = cosines.diagonal_scatter(cosines.new_full((len(x_ngD), group), -2.0), dim1=1, dim2=2).argmax(-1)
        # The distance is of the difference: from the cosine it would lose half its digits, just where neighbours are close.
        neighbours = x_ngD.gather(1, nearest[..., None].expand_as(x_ngD))
        distances = torch.linalg.vector_norm(x_ngD - neighbours, dim=-1)
        return -(distances + EPSILON).log().mean()


def unit_groups(features_BD: torch.Tensor, group: int) -> torch.Tensor:
    """(n, g, D): the rows at unit length, at least fp32, in consecutive groups of `group`."""
    if group < 2 or len(features_BD) % group:
        raise UserError(
            f"Neighbours are sought in groups of {group} patches among {len(features_BD)} at a time. A group is at least 2 patches, "
            "and the patches that one device computes at a time are a multiple of it: change the group or the batch."
        )
    x_BD = F.normalize(features_BD.to(torch.promote_types(features_BD.dtype, torch.float32)), dim=-1)
    return rearrange(x_BD, "(n g) d -> n g d", g=group)
