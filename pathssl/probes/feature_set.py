"""What protocols read and return: the features of a labelled task by split, and the numbers made from them.

Axes: N samples, D features, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pathssl.metrics import auroc, balanced_accuracy, f1


@dataclass(frozen=True)
class Split:
    """One split: float32 features, class numbers, and for each sample its group (a case, say) and its id (its path).

    Where samples are slides, `features_ND` are the means over their patches, and `bags` has for each the (M, D) of all its patches.
    """

    features_ND: np.ndarray
    labels_N: np.ndarray
    groups_N: np.ndarray
    ids_N: np.ndarray
    bags: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True)
class FeatureSet:
    """A task's splits; `test` is None where the task has none. `shifted`: samples of the final split again, in another stain."""

    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None
    shifted: dict[str, Split] = field(default_factory=dict)

    def evaluated(self) -> dict[str, Split]:
        """The splits that get a number: val, test where there is one, and those that are shifted."""
        return {"val": self.val} | ({"test": self.test} if self.test is not None else {}) | self.shifted

    def final(self) -> tuple[str, Split]:
        """The split whose per-sample predictions are kept, with its name: test, or val where there is no test."""
        return ("test", self.test) if self.test is not None else ("val", self.val)


@dataclass(frozen=True)
class ProtocolResult:
    """`results` {"<split>/<metric>": value}; `scores` {split: (N, K), rows sum to 1}; `chosen`, by validation; `arrays` to keep.

    A protocol that makes many classifiers has no scores.
    """

    results: dict[str, float]
    scores: dict[str, np.ndarray]
    chosen: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class ProbeProtocol(Protocol):
    """A way to turn features into numbers. It may look at test once, at the end, and choose nothing by it.

    One that has `only_slides = True` takes tasks of slides alone, for it looks at their bags.
    """

    def run(self, features: FeatureSet) -> ProtocolResult:
        """The results on val and, where there is one, test."""


@dataclass(frozen=True)
class ByTask:
    """A protocol, and others in its place for the tasks of these names."""

    protocol: Any
    others: Mapping[str, Any]

    def of(self, task: str) -> Any:
        return self.others.get(task, self.protocol)


def scored_runs(features: FeatureSet, scores: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> ProtocolResult:
    """The result of a protocol of R runs from their scores {split: (R, N, K)}: the means of the runs' metrics, and of their scores.

    The arrays to keep are `arrays`, each run's metrics, and each run's predictions (R, N) for the final split, of which the means are.
    """
    runs = len(next(iter(scores.values())))
    by_run = [scored(features, {name: of[r] for name, of in scores.items()}, {}).results for r in range(runs)]
    results = {key: float(np.mean([result[key] for result in by_run])) for key in by_run[0]}
    kept = {f"runs_{key.replace('/', '_')}": np.array([result[key] for result in by_run]) for key in by_run[0]}
    kept["runs_predictions"] = scores[features.final()[0]].argmax(axis=2).astype(np.int32)
    return ProtocolResult(results, {name: of.mean(axis=0) for name, of in scores.items()}, {}, arrays | kept)


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
