"""Which samples of a labelled set are train, val and test: checks, and a validation split where there is none.

Axes: N samples.
"""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from pathssl.errors import UserError

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def check_groups(groups_N: np.ndarray, splits_N: np.ndarray, source: str) -> None:
    """Refuses groups (cases, source tiles) with samples in two splits: such a test measures memory."""
    pairs = np.unique(np.stack([groups_N, splits_N]).astype(str), axis=1)
    names, counts = np.unique(pairs[0], return_counts=True)
    straddling = names[counts > 1].tolist()
    if straddling:
        first = straddling[0]
        where = " and ".join(pairs[1][pairs[0] == first])
        more = f", as do {len(straddling) - 1} more groups" if len(straddling) > 1 else ""
        raise UserError(
            f"{source}: group {first!r} has samples in {where}{more}. "
            "Put each group into one split, else the test measures what was seen in training."
        )


def take_validation(
    labels_N: np.ndarray, groups_N: np.ndarray | None, fraction: float, source: str
) -> tuple[np.ndarray, int]:
    """(N,) bool, which of the train samples become validation, and how many classes it lacks (0, if at all possible).

    Whole groups where there are groups, single samples elsewhere. scikit-learn's stratified folds of about `fraction`
    are made; the one that leaves every class in train, has most classes in validation and comes nearest to `fraction`
    in size is taken, the first at a draw. No seed of a run enters: all runs validate on the same samples.
    """
    n_units = len(labels_N) if groups_N is None else len(np.unique(groups_N))
    n_classes = len(np.unique(labels_N))
    largest_class = int(np.unique(labels_N, return_counts=True)[1].max())
    n_folds = min(round(1 / fraction), n_units, largest_class)
    kind = "samples" if groups_N is None else "groups"
    advice = f"{source}: a validation split cannot be taken from the {n_units} {kind} of train"
    if n_folds < 2:
        raise UserError(f"{advice}. Add more of them, or give rows with split val.")
    folds_N = _folds(labels_N, groups_N, n_folds)

    best: tuple | None = None
    for fold in range(n_folds):
        val_N = folds_N == fold
        lacking = n_classes - len(np.unique(labels_N[val_N]))
        rank = (lacking, abs(val_N.mean() - fraction), fold)
        if val_N.any() and len(np.unique(labels_N[~val_N])) == n_classes and (best is None or rank < best):
            best = rank
    if best is None:
        raise UserError(f"{advice} without losing a class. Add more of them, or give rows with split val.")
    return folds_N == best[2], best[0]


def _folds(labels_N: np.ndarray, groups_N: np.ndarray | None, n_folds: int) -> np.ndarray:
    """(N,) the fold of each sample; classes with few samples are spread as well as scikit-learn can."""
    kind = StratifiedKFold if groups_N is None else StratifiedGroupKFold
    folds_N = np.zeros(len(labels_N), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "least populated class has few members": the caller ranks folds
        splitter = kind(n_folds, shuffle=True, random_state=0)
        for fold, (_, held_out) in enumerate(splitter.split(labels_N, labels_N, groups_N)):
            folds_N[held_out] = fold
    return folds_N
