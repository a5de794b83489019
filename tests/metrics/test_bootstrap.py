"""Intervals over cases: whole cases are drawn, the same for all models, and the intervals contain what they should."""

import numpy as np
import pytest

from pathssl.metrics import auroc, balanced_accuracy, confusion, f1
from pathssl.metrics.bootstrap import aurocs, balanced_accuracies, confusions, interval, recalls
from pathssl.metrics.classification import f1_of


def clustered(rng, cases, per_case, accuracy):
    """Labels by case, and predictions whose accuracy varies from case to case around `accuracy`."""
    label_G = np.arange(cases) % 2
    right_G = rng.beta(accuracy * 4, (1 - accuracy) * 4, cases)
    groups, labels = np.repeat(np.arange(cases), per_case), np.repeat(label_G, per_case)
    right = rng.random(len(labels)) < np.repeat(right_G, per_case)
    return labels, np.where(right, labels, 1 - labels), groups.astype(str)


def test_a_draw_is_the_metric_of_the_cases_drawn_written_out():
    rng = np.random.default_rng(0)
    labels, predictions, groups = clustered(rng, 12, 5, 0.7)
    names = np.unique(groups)
    counts = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=20)
    found = balanced_accuracies(labels, predictions, groups, 2, draws=20)
    for drawn, value in zip(counts, found, strict=True):
        rows = np.concatenate(
            [np.flatnonzero(groups == name) for name, n in zip(names, drawn, strict=True) for _ in range(n)]
        )
        assert value == pytest.approx(balanced_accuracy(labels[rows], predictions[rows]))


def rows_of_draws(groups, draws):
    """The rows of the samples in each draw, with those of a case as often as it was drawn."""
    names = np.unique(groups)
    counts = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    for drawn in counts:
        rows = [np.flatnonzero(groups == name) for name, n in zip(names, drawn, strict=True) for _ in range(n)]
        yield np.concatenate(rows)


def test_an_area_under_the_curve_in_a_draw_is_that_of_the_cases_drawn_ties_and_absent_classes_included():
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(9), 4).astype(str)
    labels = np.repeat([0, 0, 0, 0, 1, 1, 1, 1, 2], 4)  # the third class is missing in many draws
    scores = np.round(rng.random((36, 3)) + 0.3 * np.eye(3)[labels], 1)
    found = aurocs(labels, scores, groups, draws=40)
    wanted = [auroc(labels[rows], scores[rows]) for rows in rows_of_draws(groups, 40)]
    np.testing.assert_allclose(found, np.array(wanted, float))
    monotone = aurocs(labels, np.exp(scores), groups, draws=40)
    np.testing.assert_allclose(found, monotone)
    assert np.isnan(aurocs(labels[:16], scores[:16], groups[:16], draws=5)).all()


def test_shares_of_hits_in_a_draw_are_those_of_the_cases_drawn():
    rng = np.random.default_rng(6)
    groups, labels = np.repeat(np.arange(8), 3).astype(str), np.repeat(np.arange(8) % 2, 3)
    hits = rng.random(24)
    wanted = [
        np.mean([hits[rows][labels[rows] == label].mean() for label in np.unique(labels[rows])])
        for rows in rows_of_draws(groups, 30)
    ]
    np.testing.assert_allclose(recalls(hits, labels, groups, draws=30), wanted)


def test_f1_of_a_confusion_matrix_is_that_of_its_samples():
    labels, predictions, _ = clustered(np.random.default_rng(5), 12, 5, 0.7)
    assert float(f1_of(confusion(labels, predictions, 3))) == pytest.approx(f1(labels, predictions))


def test_the_order_of_samples_does_not_matter_and_models_share_their_draws():
    labels, predictions, groups = clustered(np.random.default_rng(1), 10, 4, 0.6)
    order = np.random.default_rng(2).permutation(len(labels))
    one = confusions(labels, predictions, groups, 2, draws=50)
    other = confusions(labels[order], predictions[order], groups[order], 2, draws=50)
    assert np.array_equal(one, other)
    assert np.array_equal(one.sum(axis=2), confusions(labels, 1 - predictions, groups, 2, draws=50).sum(axis=2))


@pytest.mark.slow
def test_intervals_over_cases_cover_and_those_over_samples_would_not():
    rng = np.random.default_rng(3)
    hits = {"cases": 0, "samples": 0}
    for _ in range(200):
        labels, predictions, groups = clustered(rng, 60, 10, 0.7)
        for unit, by in (("cases", groups), ("samples", np.arange(len(labels)).astype(str))):
            low, high = interval(balanced_accuracies(labels, predictions, by, 2, draws=500))
            hits[unit] += low <= 0.7 <= high
    assert 0.90 <= hits["cases"] / 200 <= 0.99  # 95 % aimed at
    assert hits["samples"] / 200 < 0.85


def test_three_thousand_samples_take_a_moment():
    labels, predictions, groups = clustered(np.random.default_rng(4), 600, 5, 0.8)
    low, high = interval(balanced_accuracies(labels, predictions, groups, 2))
    assert low < balanced_accuracy(labels, predictions) < high and high - low < 0.1
