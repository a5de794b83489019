"""Numbers from arrays: numpy, SciPy and scikit-learn only, no torch."""

from pathssl.metrics.classification import auroc, balanced_accuracy, confusion, f1
from pathssl.metrics.representation import apart, odcorr, rankme, shift_distance
from pathssl.metrics.segmentation import dice, miou

__all__ = [
    "apart",
    "auroc",
    "balanced_accuracy",
    "confusion",
    "dice",
    "f1",
    "miou",
    "odcorr",
    "rankme",
    "shift_distance",
]
