"""The teacher's targets, kept as what they follow from: the probabilities of all rows at once are the largest thing that a step would hold.

Axes: R rows (views or tokens), K prototypes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

_ELEMENTS = 2**24  # of a block of rows: 64 MiB in fp32


@dataclass(frozen=True)
class SoftTargets:
    """softmax(scores / temperature + shift_K) over the last axis, for scores (..., K) in the precision that the teacher gave them."""

    scores: torch.Tensor
    shift_K: torch.Tensor
    temperature: float

    @torch.no_grad()
    def probabilities(self) -> torch.Tensor:
        """(..., K), at least fp32, without gradient."""
        return torch.add(self.shift_K, self.scores, alpha=1 / self.temperature).softmax(-1)

    def __getitem__(self, places: Any) -> "SoftTargets":
        return SoftTargets(self.scores[places], self.shift_K, self.temperature)

    def view(self, *shape: int) -> "SoftTargets":
        return SoftTargets(self.scores.view(*shape), self.shift_K, self.temperature)

    def blocks(self) -> Iterator[torch.Tensor]:
        """(rows, K): the probabilities, few rows at a time."""
        scores_RK = self.scores.flatten(0, -2)
        for rows_RK in blocks(scores_RK):
            yield SoftTargets(rows_RK, self.shift_K, self.temperature).probabilities()


def blocks(scores_RK: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The rows in order, few enough at a time that a copy of them is small."""
    return scores_RK.split(max(1, _ELEMENTS // scores_RK.shape[1]))


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
