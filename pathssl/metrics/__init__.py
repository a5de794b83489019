"""Numbers from arrays: numpy, SciPy and scikit-learn only, no torch."""

from pathssl.metrics.classification import balanced_accuracy
from pathssl.metrics.representation import odcorr, rankme
from pathssl.metrics.segmentation import confusion, dice, miou

__all__ = ["balanced_accuracy", "confusion", "dice", "miou", "odcorr", "rankme"]
