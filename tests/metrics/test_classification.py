"""Claims about agreement between true and predicted classes."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from pathssl.metrics import balanced_accuracy


def test_it_is_the_mean_recall_and_not_the_share_of_hits():
    labels = np.array([0] * 8 + [1] * 2)
    predictions = np.array([0] * 8 + [0, 1])
    assert balanced_accuracy(labels, predictions) == pytest.approx((1.0 + 0.5) / 2)


def test_a_constant_prediction_scores_chance():
    labels = np.array([0, 1, 2, 2, 2, 2, 2])
    assert balanced_accuracy(labels, np.full(7, 2)) == pytest.approx(1 / 3)


def test_it_equals_scikit_learn_and_is_silent_about_classes_that_do_not_occur():
    labels, predictions = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = balanced_accuracy(labels, predictions)
    with pytest.warns(UserWarning):
        assert ours == pytest.approx(balanced_accuracy_score(labels, predictions))
