"""Logistic regression is the one of the textbook, chosen on validation, and the same on any number of threads."""

import itertools
import logging
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from pathssl.errors import UserError
from pathssl.metrics import balanced_accuracy
from pathssl.probes.linear import Linear

GRID = [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10]


def linear(c_grid=GRID, tolerance=1e-4, max_iterations=1000):
    return Linear(c_grid=c_grid, tolerance=tolerance, max_iterations=max_iterations)


def by_hand(train, queries, classes, c):
    """Class probabilities from the objective as written in Linear's docstring, minimised by SciPy."""
    mean, std = train.features_ND.mean(axis=0, dtype=np.float64), train.features_ND.std(axis=0, dtype=np.float64)
    x = (train.features_ND - mean) / std
    onehot = np.eye(classes)[train.labels_N]

    def objective(flat):
        w = flat.reshape(classes, -1)
        logits = x @ w[:, :-1].T + w[:, -1]
        logp = logits - logsumexp(logits, axis=1, keepdims=True)
        gradient = (np.exp(logp) - onehot).T @ np.hstack([x, np.ones((len(x), 1))])
        gradient[:, :-1] += w[:, :-1] / c
        return -(onehot * logp).sum() + (w[:, :-1] ** 2).sum() / (2 * c), gradient.ravel()

    start = np.zeros(classes * (x.shape[1] + 1))
    w = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-5}).x.reshape(classes, -1)
    logits = (queries.features_ND - mean) / std @ w[:, :-1].T + w[:, -1]
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


@pytest.mark.parametrize("c", [0.01, 1])
def test_it_minimises_the_penalised_cross_entropy_on_standardised_features(c, made_features):
    features = made_features(n_train=120, d=6, classes=3, distance=0.4)
    ours = linear([c], tolerance=1e-8).run(features).scores["test"]
    np.testing.assert_allclose(ours, by_hand(features.train, features.test, 3, c), atol=1e-5)


def test_the_path_along_c_ends_where_the_last_c_alone_does(made_features, monkeypatch):
    features = made_features(n_train=200, d=10, classes=3, distance=0.3)
    alone = linear([1], tolerance=1e-7).run(features)
    rising = itertools.count()
    monkeypatch.setattr("pathssl.probes.linear.balanced_accuracy", lambda *_: next(rising))  # so the last C is chosen
    path = linear([1e-5, 1e-3, 0.1, 1], tolerance=1e-7).run(features)
    assert path.chosen == {"C": 1}
    np.testing.assert_allclose(path.scores["test"], alone.scores["test"], atol=1e-5)


def test_c_is_chosen_on_validation_whatever_test_says_and_the_strongest_wins_a_draw(made_features):
    features = made_features(n_train=120, d=20, classes=3, distance=0.15)
    chosen = linear(tolerance=1e-7).run(features)
    single = {c: linear([c], tolerance=1e-7).run(features).results["val/balanced_accuracy"] for c in GRID}
    assert len(set(single.values())) > 2  # there is something to choose
    assert chosen.results["val/balanced_accuracy"] == max(single.values())
    assert chosen.chosen["C"] == min(c for c, value in single.items() if value == max(single.values()))
    upset = replace(features, test=replace(features.test, labels_N=features.test.labels_N[::-1]))
    assert linear(tolerance=1e-7).run(upset).chosen == chosen.chosen
    easy = made_features(n_train=120, d=20, classes=3, distance=30)
    assert linear([0.1, 1, 10]).run(easy).chosen == {"C": 0.1}


def test_the_model_is_not_fitted_again_on_validation(made_features):
    features = made_features(n_train=100, d=5, classes=2, distance=0.3)
    result = linear([0.1], tolerance=1e-8).run(features)
    upset = replace(features, val=replace(features.val, features_ND=features.val.features_ND * 100 - 7))
    assert np.array_equal(linear([0.1], tolerance=1e-8).run(upset).scores["test"], result.scores["test"])


def test_results_are_the_balanced_accuracy_of_the_scores(made_features):
    features = made_features(n_train=150, d=8, classes=4, distance=0.3)
    result = linear().run(features)
    expected = balanced_accuracy(features.test.labels_N, result.scores["test"].argmax(axis=1))
    assert result.results["test/balanced_accuracy"] == expected
    np.testing.assert_allclose(result.scores["test"].sum(axis=1), 1)


def test_the_number_of_threads_does_not_change_a_bit(made_features):
    features = made_features(n_train=600, d=96, classes=5, distance=0.1)
    runs = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            runs.append(linear().run(features))
    for other in runs[1:]:
        assert other.results == runs[0].results
        assert np.array_equal(other.scores["test"], runs[0].scores["test"])


def test_constant_features_and_a_collapsed_encoder_do_no_harm(made_features):
    features = made_features(n_train=90, d=6, classes=3, distance=1)
    splits = {name: getattr(features, name) for name in ("train", "val", "test")}
    padded = {
        name: replace(s, features_ND=np.pad(s.features_ND, ((0, 0), (0, 2)), constant_values=5))
        for name, s in splits.items()
    }
    np.testing.assert_allclose(
        linear([0.1], tolerance=1e-7).run(replace(features, **padded)).scores["test"],
        linear([0.1], tolerance=1e-7).run(features).scores["test"],
        atol=1e-5,
    )
    flat = {name: replace(s, features_ND=np.full_like(s.features_ND, 2.5)) for name, s in splits.items()}
    assert linear().run(replace(features, **flat)).results["test/balanced_accuracy"] == pytest.approx(1 / 3)


def test_without_a_test_split_only_validation_is_reported(made_features):
    result = linear().run(made_features(n_train=60, d=4, classes=2, distance=1, test=False))
    assert {key.split("/")[0] for key in result.results} == {"val"}


def test_a_chosen_fit_that_did_not_converge_is_warned_of(caplog, made_features):
    features = made_features(n_train=200, d=20, classes=3, distance=0.3)
    with caplog.at_level(logging.WARNING):
        linear([1], max_iterations=3).run(features)
    assert "not converged after 3 iterations" in caplog.text


def test_a_checkpoint_of_the_demo_is_probed_within_two_seconds(made_features):
    features = made_features(n_train=700, d=128, classes=6, distance=0.1)
    start = time.process_time()
    linear().run(features)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("settings", [{"c_grid": []}, {"c_grid": [0]}, {"tolerance": 0}, {"max_iterations": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="linear"):
        linear(**settings)
