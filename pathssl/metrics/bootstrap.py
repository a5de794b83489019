"""How much a metric would vary with other cases: whole groups (cases) of samples drawn again, with replacement.

Samples of one case resemble each other, so that drawing single samples would make intervals too narrow. Percentile intervals (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

Axes: N samples (or images with masks), G groups, K classes, S draws.
"""

import numpy as np

from pathssl.metrics.classification import balanced_accuracy_of, f1_of
from pathssl.metrics.segmentation import dice, miou

DRAWS = 2000
SEED = 0


def confusions(
    labels_N: np.ndarray, predictions_N: np.ndarray, groups_N: np.ndarray, classes: int, draws: int = DRAWS
) -> np.ndarray:
    """(S, K, K): the confusion matrix of each draw. The draws depend on the names of the groups alone, so that predictions of the same
    samples, by whatever model, are compared pair by pair.
    """
    picked_SG, group_N = _picked(groups_N, draws)
    groups = picked_SG.shape[1]
    cell_N = (group_N * classes + labels_N) * classes + predictions_N
    counts = np.bincount(cell_N, minlength=groups * classes**2).reshape(groups, classes**2)
    return (picked_SG @ counts).reshape(draws, classes, classes)


def _picked(groups_N: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, G) how often each group was drawn, and (N,) the number of each sample's group."""
    names, group_N = np.unique(groups_N, return_inverse=True)
    picked_SG = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return picked_SG.astype(np.float64), group_N


def balanced_accuracies(
    labels_N: np.ndarray, predictions_N: np.ndarray, groups_N: np.ndarray, classes: int, draws: int = DRAWS
) -> np.ndarray:
    """(S,) balanced accuracy in each draw."""
    return balanced_accuracy_of(confusions(labels_N, predictions_N, groups_N, classes, draws))


def f1s(
    labels_N: np.ndarray, predictions_N: np.ndarray, groups_N: np.ndarray, classes: int, draws: int = DRAWS
) -> np.ndarray:
    """(S,) F1 in each draw."""
    return f1_of(confusions(labels_N, predictions_N, groups_N, classes, draws))


def dices(confusion_NKK: np.ndarray, groups_N: np.ndarray, background: int | None, draws: int = DRAWS) -> np.ndarray:
    """(S,) Dice of the images with masks in each draw; NaN in draws where no image has a class."""
    picked_SG, group_N = _picked(groups_N, draws)
    dice_N = np.array([dice(one_KK[None], background) for one_KK in confusion_NKK])
    counted_N = np.isfinite(dice_N)
    weight_SN = picked_SG[:, group_N] * counted_N
    with np.errstate(invalid="ignore"):
        return (weight_SN @ np.where(counted_N, dice_N, 0)) / weight_SN.sum(axis=1)


def mious(confusion_NKK: np.ndarray, groups_N: np.ndarray, background: int | None, draws: int = DRAWS) -> np.ndarray:
    """(S,) mIoU of the images with masks in each draw."""
    picked_SG, group_N = _picked(groups_N, draws)
    together_SKK = np.einsum("sn,nij->sij", picked_SG[:, group_N], np.asarray(confusion_NKK, np.float64))
    return np.array([miou(one_KK[None], background) for one_KK in together_SKK])


def interval(values_S: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The bounds between which the middle `level` of the draws lies."""
    low, high = np.nanquantile(values_S, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
