"""Labels that mean nothing are reported as chance: the interval over cases holds 1 / K in at least 90 of 100 draws."""

import numpy as np
import pytest

from pathssl.metrics.bootstrap import balanced_accuracies, interval
from pathssl.probes.feature_set import FeatureSet, Split
from pathssl.probes.knn import KNN
from pathssl.probes.linear import Linear

PROTOCOLS = {
    "linear": Linear(c_grid=[1e-3, 1e-1], tolerance=1e-4, max_iterations=200),
    "knn": KNN(ks=[1, 5, 20], temperature=0.07),
}
K, DRAWS = 3, 100


def clustered(rng, cases, each=5, dim=10):
    """Features whose cases differ from each other more than their samples do, as those of patients do; labels belong to cases."""
    centres = rng.normal(size=(cases, dim))
    features = np.repeat(centres, each, axis=0) + 0.5 * rng.normal(size=(cases * each, dim))
    groups = np.repeat([f"case{k}" for k in range(cases)], each)
    ids = np.array([f"{k}.png" for k in range(len(groups))])
    return Split(features.astype(np.float32), np.repeat(np.arange(cases) % K, each), groups, ids)


def shuffled(split: Split, rng) -> Split:
    """The labels dealt out anew to whole groups: samples of one case are not exchangeable with those of others."""
    _, first, group_N = np.unique(split.groups_N, return_index=True, return_inverse=True)
    label_G = rng.permutation(split.labels_N[first])
    return Split(split.features_ND, label_G[group_N], split.groups_N, split.ids_N)


def chance_is_held(features: FeatureSet, protocol, seed: int) -> bool:
    rng = np.random.default_rng(seed)
    dealt = FeatureSet(
        features.classes, *(shuffled(split, rng) for split in (features.train, features.val, features.test))
    )
    scores = protocol.run(dealt).scores["test"]
    draws = balanced_accuracies(
        dealt.test.labels_N, scores.argmax(axis=1), dealt.test.groups_N, len(features.classes), draws=500
    )
    low, high = interval(draws)
    return low <= 1 / len(features.classes) <= high


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_shuffled_labels_are_chance_on_features_of_cases(name):
    rng = np.random.default_rng(0)
    features = FeatureSet(("a", "b", "c"), clustered(rng, 45), clustered(rng, 24), clustered(rng, 60))
    assert sum(chance_is_held(features, PROTOCOLS[name], seed) for seed in range(DRAWS)) >= 90


def test_labels_that_mean_something_are_not_chance():
    rng = np.random.default_rng(1)

    def telling(cases):
        split = clustered(rng, cases)
        return Split(
            split.features_ND + 3 * np.eye(10, dtype=np.float32)[split.labels_N],
            split.labels_N,
            split.groups_N,
            split.ids_N,
        )

    features = FeatureSet(("a", "b", "c"), telling(45), telling(24), telling(60))
    scores = PROTOCOLS["linear"].run(features).scores["test"]
    low, _ = interval(balanced_accuracies(features.test.labels_N, scores.argmax(axis=1), features.test.groups_N, K))
    assert low > 0.6
