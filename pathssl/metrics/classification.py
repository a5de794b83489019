"""How well predicted classes agree with the true ones."""

import numpy as np
from sklearn.metrics import recall_score


def balanced_accuracy(labels_N: np.ndarray, predictions_N: np.ndarray) -> float:
    """The mean over classes of recall, in [0, 1]; chance is 1 / (number of classes).

    The mean is over the classes that occur in `labels_N`. This is scikit-learn's `balanced_accuracy_score`, without its
    warning when a class is predicted that does not occur (an untrained encoder on a small test set does that daily).
    """
    present = np.unique(labels_N)
    return float(recall_score(labels_N, predictions_N, labels=present, average="macro", zero_division=0.0))
