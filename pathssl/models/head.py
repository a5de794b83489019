"""The projection head of DINO (Caron et al. 2021, section 3.1 and appendix C)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class DINOHead(nn.Module):
    """(N, D) features -> (N, K) prototype scores: an MLP, L2 normalisation, and a weight-normalised linear layer without bias.

    layers counts the MLP's linear layers. batch_norm puts one after each of them but the last, over the rows of one pass.
    norm_last_layer fixes every prototype's length at 1; otherwise the length is learned.
    """

    def __init__(
        self,
        in_dim: int,
        *,
        out_dim: int,
        hidden_dim: int,
        bottleneck_dim: int,
        layers: int,
        batch_norm: bool,
        norm_last_layer: bool,
    ):
        super().__init__()
        dims = [in_dim] + [hidden_dim] * (layers - 1) + [bottleneck_dim]
        mlp: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(dims), start=1):
            mlp.append(nn.Linear(before, after))
            if number < layers:
                # No running statistics: the teacher too normalises by what it is shown, as DINO's does.
                mlp += [nn.BatchNorm1d(after, track_running_stats=False)] if batch_norm else []
                mlp.append(nn.GELU())
        self.mlp = nn.Sequential(*mlp)
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.prototypes = nn.Parameter(torch.empty(out_dim, bottleneck_dim))
        # As nn.Linear's default, which the published code wraps in weight normalisation.
        nn.init.kaiming_uniform_(self.prototypes, a=5**0.5)
        self.lengths = None if norm_last_layer else nn.Parameter(torch.ones(out_dim, 1))

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        bottleneck = F.normalize(
            self.mlp(features_ND), dim=-1, eps=1e-6 if features_ND.dtype == torch.float16 else 1e-12
        )
        prototypes = F.normalize(self.prototypes, dim=-1)
        return F.linear(bottleneck, prototypes if self.lengths is None else prototypes * self.lengths)

    def last_layer(self) -> list[nn.Parameter]:
        """The prototypes and, where they are learned, their lengths."""
        return [self.prototypes] + ([] if self.lengths is None else [self.lengths])
