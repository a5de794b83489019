"""How well predicted classes and scores agree with the true classes.

Axes: N samples, K classes; confusion matrices hold the true class in rows, the predicted one in columns, and may have axes before these.
"""

import numpy as np
from sklearn.metrics import f1_score, recall_score, roc_auc_score


def balanced_accuracy(labels_N: np.ndarray, predictions_N: np.ndarray) -> float:
    """The mean over classes of recall, in [0, 1]; chance is 1 / (number of classes).

    The mean is over the classes that occur in `labels_N`. This is scikit-learn's `balanced_accuracy_score`, without its
    warning when a class is predicted that does not occur (an untrained encoder on a small test set does that daily).
    """
    present = np.unique(labels_N)
    return float(recall_score(labels_N, predictions_N, labels=present, average="macro", zero_division=0.0))


def f1(labels_N: np.ndarray, predictions_N: np.ndarray) -> float:
    """The mean over the classes that occur in `labels_N` of F1, the harmonic mean of precision and recall."""
    present = np.unique(labels_N)
    return float(f1_score(labels_N, predictions_N, labels=present, average="macro", zero_division=0.0))


def auroc(labels_N: np.ndarray, scores_NK: np.ndarray) -> float | None:
    """The mean over the classes that occur of the area under the ROC curve of each against the rest; chance is 0.5.

    None where a single class occurs. For two classes both areas are the same, that of the second class's scores.
    """
    present = np.unique(labels_N)
    if len(present) < 2:
        return None
    return float(np.mean([roc_auc_score(labels_N == label, scores_NK[:, label]) for label in present]))


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) int64 counts of samples or pixels, arrays of any one shape. Labels that are not one of 0 ... K - 1 (an ignore label) do not
    count.
    """
    counted = (labels >= 0) & (labels < classes)
    cells = labels[counted].astype(np.int64) * classes + predictions[counted]
    return np.bincount(cells.ravel(), minlength=classes**2).reshape(classes, classes)


def f1_of(confusion_KK: np.ndarray) -> np.ndarray:
    """F1 of confusion matrices (..., K, K), as `f1` has it."""
    hits_K = np.diagonal(confusion_KK, axis1=-2, axis2=-1)
    total_K, predicted_K = confusion_KK.sum(axis=-1), confusion_KK.sum(axis=-2)
    f1_K = np.where(total_K > 0, 2 * hits_K / np.maximum(total_K + predicted_K, 1), 0)
    return f1_K.sum(axis=-1) / np.maximum((total_K > 0).sum(axis=-1), 1)


def balanced_accuracy_of(confusion_KK: np.ndarray) -> np.ndarray:
    """Balanced accuracy of confusion matrices (..., K, K), as `balanced_accuracy` has it."""
    total_K = confusion_KK.sum(axis=-1)
    hits_K = np.diagonal(confusion_KK, axis1=-2, axis2=-1)
    recall_K = hits_K / np.maximum(total_K, 1)
    return recall_K.sum(axis=-1) / np.maximum((total_K > 0).sum(axis=-1), 1)
