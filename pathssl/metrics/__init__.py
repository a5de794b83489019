"""Numbers from arrays: numpy, SciPy and scikit-learn only, no torch."""

from pathssl.metrics.classification import balanced_accuracy
from pathssl.metrics.representation import odcorr, rankme, shift_distance

__all__ = ["balanced_accuracy", "odcorr", "rankme", "shift_distance"]
