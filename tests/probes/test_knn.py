"""The nearest neighbours vote as DINO's do, and validation alone chooses k."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from pathssl.errors import UserError
from pathssl.probes.feature_set import FeatureSet, Split
from pathssl.probes.knn import KNN


def test_votes_by_hand():
    def split(angles, labels):
        features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[5.0], [1.0], [0.3]])[: len(angles)]
        names = np.array(list("abc"))[: len(angles)]
        return Split(features.astype(np.float32), np.array(labels), names, names)

    # Neighbours at cosines 1, cos 0.3, cos 1: lengths must not matter.
    features = FeatureSet(("x", "y"), split([0.0, 0.3, 1.0], [1, 0, 0]), split([0.0], [1]), None)
    for k in (1, 2, 3):
        result = KNN(ks=[k], temperature=0.07).run(features)
        weights = np.exp(np.cos([0.0, 0.3, 1.0]) / 0.07)[:k]
        np.testing.assert_allclose(result.scores["val"][0, 1], weights[0] / weights.sum(), rtol=1e-5)


def test_it_agrees_with_scikit_learn(made_features):
    features = made_features(n_train=300, d=16, classes=4, distance=0.6)
    ours = KNN(ks=[15], temperature=0.07).run(features).scores["test"]
    theirs = KNeighborsClassifier(15, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    theirs.fit(features.train.features_ND, features.train.labels_N)
    np.testing.assert_allclose(ours, theirs.predict_proba(features.test.features_ND), atol=1e-5)


def test_many_queries_are_searched_in_parts_with_the_same_result(monkeypatch, made_features):
    features = made_features(n_train=100, d=8, classes=3, distance=0.5)
    whole = KNN(ks=[5], temperature=0.07).run(features)
    monkeypatch.setattr("pathssl.probes.knn.QUERIES_AT_ONCE", 7)
    np.testing.assert_allclose(KNN(ks=[5], temperature=0.07).run(features).scores["test"], whole.scores["test"])


def test_k_is_chosen_on_validation_whatever_test_says(made_features):
    features = made_features(n_train=200, d=8, classes=3, distance=0.4)
    single = {k: KNN(ks=[k], temperature=0.07).run(features).results["val/balanced_accuracy"] for k in (1, 5, 50)}
    chosen = KNN(ks=[1, 5, 50], temperature=0.07).run(features)
    assert chosen.results["val/balanced_accuracy"] == max(single.values())
    upset = replace(features, test=replace(features.test, labels_N=features.test.labels_N[::-1]))
    assert KNN(ks=[1, 5, 50], temperature=0.07).run(upset).chosen == chosen.chosen


def test_ks_above_the_train_set_are_passed_over_and_none_left_is_refused(made_features):
    features = made_features(n_train=30, d=4, classes=2, distance=2)
    assert KNN(ks=[5, 1000], temperature=0.07).run(features).chosen == {"k": 5}
    with pytest.raises(UserError, match="above the 30 train images"):
        KNN(ks=[1000], temperature=0.07).run(features)


def test_without_a_test_split_only_validation_is_reported(made_features):
    result = KNN(ks=[5], temperature=0.07).run(made_features(n_train=60, d=4, classes=2, distance=1, test=False))
    assert {key.split("/")[0] for key in result.results} == {"val"}


def test_a_collapsed_encoder_scores_chance(made_features):
    features = made_features(n_train=90, d=4, classes=3, distance=1)
    splits = {name: getattr(features, name) for name in ("train", "val", "test")}
    flat = {name: replace(split, features_ND=np.zeros_like(split.features_ND)) for name, split in splits.items()}
    result = KNN(ks=[1, 90], temperature=0.07).run(replace(features, **flat))
    assert result.results["test/balanced_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("settings", [{"ks": []}, {"ks": [0, 5]}, {"temperature": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="knn"):
        KNN(**({"ks": [5], "temperature": 0.07} | settings))
