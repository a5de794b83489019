"""Claims about agreement between true and predicted classes."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from pathssl.metrics import auroc, balanced_accuracy, confusion, f1
from pathssl.metrics.classification import balanced_accuracy_of


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


def test_f1_is_the_mean_over_classes_of_the_harmonic_mean_of_precision_and_recall():
    labels, predictions = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    by_hand = [2 * (1 * (2 / 3)) / (1 + 2 / 3), 2 * (0.5 * 0.5) / (0.5 + 0.5), 2 * (0.5 * 1) / (0.5 + 1)]
    assert f1(labels, predictions) == pytest.approx(np.mean(by_hand))


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    labels = np.array([0, 0, 1, 1, 2])
    scores = np.array([[0.9, 0.1, 0.0], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7]])

    def of_class(label):
        pairs = [
            (scores[i, label], scores[j, label]) for i in range(5) for j in range(5) if labels[i] == label != labels[j]
        ]
        return np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])

    assert auroc(labels, scores) == pytest.approx(np.mean([of_class(label) for label in range(3)]))
    assert auroc(np.array([1, 1]), scores[:2]) is None
    one = scores[:4, :2]  # two classes: both areas are the same where the scores sum to 1
    one = one / one.sum(axis=1, keepdims=True)
    assert auroc(labels[:4], one) == pytest.approx(of_pairs(labels[:4], one[:, 1]))


def of_pairs(labels, scores):
    ahead = scores[labels == 1][:, None] - scores[labels == 0][None]
    return ((ahead > 0) + 0.5 * (ahead == 0)).mean()


def test_confusion_counts_true_classes_in_rows():
    matrix = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    labels, predictions = np.random.default_rng(0).integers(0, 4, (2, 50))
    of_matrix = balanced_accuracy_of(confusion(labels, predictions, 6))  # two classes do not occur
    assert of_matrix == pytest.approx(balanced_accuracy(labels, predictions))
