"""What protocols read and return: the features of a labelled task by split, and the numbers made from them.

Axes: N samples, D features, K classes.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pathssl.metrics import auroc, balanced_accuracy, f1


@dataclass(frozen=True)
class Split:
    """One split: float32 features, class numbers, and for each sample its group (a case, say) and its id (its path)."""

    features_ND: np.ndarray
    labels_N: np.ndarray
    groups_N: np.ndarray
    ids_N: np.ndarray

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True)
class FeatureSet:
    """A task's splits; `test` is None where the task has none."""

    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None

    def evaluated(self) -> dict[str, Split]:
        """The splits that get a number: val, and test where there is one."""
        return {"val": self.val} | ({"test": self.test} if self.test is not None else {})

    def final(self) -> tuple[str, Split]:
        """The split whose per-sample predictions are kept, with its name: test, or val where there is no test."""
        return ("test", self.test) if self.test is not None else ("val", self.val)


@dataclass(frozen=True)
class ProtocolResult:
    """`results` {"<split>/<metric>": value}; `scores` {split: (N, K), rows sum to 1}; `chosen`, by validation,
    and what else is kept of it.
    """

    results: dict[str, float]
    scores: dict[str, np.ndarray]
    chosen: dict[str, float | np.ndarray]


class ProbeProtocol(Protocol):
    """A way to turn features into numbers. It may look at test once, at the end, and choose nothing by it."""

    def run(self, features: FeatureSet) -> ProtocolResult:
        """The results on val and, where there is one, test."""


def scored(features: FeatureSet, scores: dict[str, np.ndarray], chosen: dict[str, float]) -> ProtocolResult:
    """The protocol's result: balanced accuracy and F1 of the class with the highest score (the first one, at a draw), and AUROC."""
    results: dict[str, float] = {}
    for name, split in features.evaluated().items():
        predictions_N = scores[name].argmax(axis=1)
        results[f"{name}/balanced_accuracy"] = balanced_accuracy(split.labels_N, predictions_N)
        results[f"{name}/f1"] = f1(split.labels_N, predictions_N)
        if (area := auroc(split.labels_N, scores[name])) is not None:
            results[f"{name}/auroc"] = area
    return ProtocolResult(results, scores, chosen)
