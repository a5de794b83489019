"""Multinomial logistic regression on frozen features."""

import logging
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pathssl.errors import UserError
from pathssl.metrics import balanced_accuracy
from pathssl.probes.feature_set import FeatureSet, ProtocolResult, scored

log = logging.getLogger(__name__)


class Linear:
    """Logistic regression (scikit-learn, L-BFGS, L2) on features standardised with the mean and deviation of train.

    For each C of `c_grid`, from the strongest regularisation to the weakest, each starting where the last one ended,

        min_W  sum_i crossentropy(W x_i + b, y_i) + |W|^2 / (2 C)

    is solved until no component of the gradient of the mean loss exceeds `tolerance`, or for `max_iterations`. The C
    with the best balanced accuracy on validation is kept (the smallest, at a draw); that model, fitted on train alone
    and not again on train and val, is then scored on test. float64 on one BLAS thread: the number of threads changes
    the order of sums, and L-BFGS would carry the difference on.
    """

    def __init__(self, *, c_grid: Sequence[float], tolerance: float, max_iterations: int):
        self.c_grid = sorted({float(c) for c in c_grid})
        self.tolerance = float(tolerance)
        self.max_iterations = int(max_iterations)
        if not self.c_grid or self.c_grid[0] <= 0 or self.tolerance <= 0 or self.max_iterations < 1:
            raise UserError(
                f"linear: c_grid={list(c_grid)}, tolerance={tolerance}, max_iterations={max_iterations}: "
                "give at least one C, and all above 0."
            )

    def run(self, features: FeatureSet) -> ProtocolResult:
        """Balanced accuracy on val and test; scores are the model's probabilities."""
        with threadpool_limits(1, user_api="blas"):
            scaler = StandardScaler().fit(features.train.features_ND.astype(np.float64))
            inputs = {"train": features.train} | features.evaluated()
            inputs = {name: scaler.transform(split.features_ND.astype(np.float64)) for name, split in inputs.items()}
            best: tuple | None = None
            model = LogisticRegression(tol=self.tolerance, max_iter=self.max_iterations, warm_start=True)
            for c in self.c_grid:
                converged = _fit(model.set_params(C=c), inputs["train"], features.train.labels_N)
                accuracy = balanced_accuracy(features.val.labels_N, model.predict(inputs["val"]))
                if best is None or accuracy > best[0]:
                    scores = {name: model.predict_proba(inputs[name]) for name in features.evaluated()}
                    best = (accuracy, c, scores, converged)
        _, c, scores, converged = best
        if not converged:
            log.warning("linear: C=%g is best on validation but not converged after %d iterations; raise "
                        "max_iterations.", c, self.max_iterations)  # fmt: skip
        return scored(features, scores, {"C": c})


def _fit(model: LogisticRegression, inputs_ND: np.ndarray, labels_N: np.ndarray) -> bool:
    """Whether the fit converged. scikit-learn's warning is left out: it matters for the chosen C alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs_ND, labels_N)
    return int(model.n_iter_.max()) < model.max_iter
