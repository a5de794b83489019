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
_AT_ONCE = 2**22  # weights of samples in draws


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


def aurocs(labels_N: np.ndarray, scores_NK: np.ndarray, groups_N: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """(S,) area under the ROC curve in each draw, as `auroc` has it; NaN in draws of a single class."""
    picked_SG, group_N = _picked(groups_N, draws)
    areas_KS = []
    for label in np.unique(labels_N):
        order = np.argsort(scores_NK[:, label], kind="stable")
        is_here_N, group_in_order_N = labels_N[order] == label, group_N[order]
        starts = np.flatnonzero(np.diff(scores_NK[order, label], prepend=-np.inf))  # of runs of equal scores
        areas_S = []
        for part_SG in np.array_split(picked_SG, max(1, picked_SG.shape[0] * len(labels_N) // _AT_ONCE)):
            weight_SN = part_SG[:, group_in_order_N]
            own_ST = np.add.reduceat(weight_SN * is_here_N, starts, axis=1)
            rest_ST = np.add.reduceat(weight_SN * ~is_here_N, starts, axis=1)
            below_ST = np.cumsum(rest_ST, axis=1) - rest_ST / 2  # of equal scores, half are below
            with np.errstate(invalid="ignore", divide="ignore"):
                areas_S.append((own_ST * below_ST).sum(axis=1) / (own_ST.sum(axis=1) * rest_ST.sum(axis=1)))
        areas_KS.append(np.concatenate(areas_S))
    there_KS = np.isfinite(areas_KS)
    with np.errstate(invalid="ignore"):
        return np.where(there_KS, areas_KS, 0).sum(axis=0) / there_KS.sum(axis=0)


def recalls(hits_N: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """(S,) in each draw the mean, over the classes that occur, of the mean of `hits_N`: how often each sample was classified rightly."""
    picked_SG, group_N = _picked(groups_N, draws)
    shares = []
    for label in np.unique(labels_N):
        here = labels_N == label
        count_G = np.bincount(group_N[here], minlength=picked_SG.shape[1])
        hits_G = np.bincount(group_N[here], weights=hits_N[here], minlength=picked_SG.shape[1])
        with np.errstate(invalid="ignore"):
            shares.append((picked_SG @ hits_G) / (picked_SG @ count_G))
    return np.nanmean(shares, axis=0)


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
