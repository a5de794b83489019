"""How much a metric would vary with other cases: whole groups (cases) of samples drawn again, with replacement.

Samples of one case resemble each other, so that drawing single samples would make intervals too narrow. Percentile intervals (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

Axes: N samples, G groups, K classes, S draws.
"""

import numpy as np

from pathssl.metrics.classification import balanced_accuracy_of

DRAWS = 2000
SEED = 0


def confusions(
    labels_N: np.ndarray, predictions_N: np.ndarray, groups_N: np.ndarray, classes: int, draws: int = DRAWS
) -> np.ndarray:
    """(S, K, K): the confusion matrix of each draw. The draws depend on the names of the groups alone, so that predictions of the same
    samples, by whatever model, are compared pair by pair.
    """
    names, group_N = np.unique(groups_N, return_inverse=True)
    cell_N = (group_N * classes + labels_N) * classes + predictions_N
    counts = np.bincount(cell_N, minlength=len(names) * classes**2).reshape(len(names), classes**2)
    picked_SG = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return (picked_SG.astype(np.float64) @ counts).reshape(draws, classes, classes)


def balanced_accuracies(
    labels_N: np.ndarray, predictions_N: np.ndarray, groups_N: np.ndarray, classes: int, draws: int = DRAWS
) -> np.ndarray:
    """(S,) balanced accuracy in each draw."""
    return balanced_accuracy_of(confusions(labels_N, predictions_N, groups_N, classes, draws))


def interval(values_S: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The bounds between which the middle `level` of the draws lies."""
    low, high = np.quantile(values_S, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
