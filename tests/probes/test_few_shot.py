"""Few shots: draws are spread over groups, nested and the same for all arms; each is SimpleShot by hand."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from pathssl.errors import UserError
from pathssl.metrics import balanced_accuracy
from pathssl.probes.evaluate import Probes
from pathssl.probes.few_shot import FewShot


def few_shot(shots=(1, 2, 4, 8), draws=6, seed=0):
    return FewShot(shots=shots, draws=draws, seed=seed)


def grouped(features, groups_N):
    return replace(features, train=replace(features.train, groups_N=np.asarray(groups_N)))


@pytest.fixture
def features(made_features):
    made = made_features(n_train=120, d=10, classes=3, distance=0.3)
    return grouped(made, np.arange(120) // 5)  # 24 cases of five images, of any classes


def orders(features, label, protocol):
    here = np.flatnonzero(features.train.labels_N == label)
    return here, protocol._orders(features.train, here, label)


def test_a_draw_takes_every_sample_once_and_one_of_each_group_before_a_second(features):
    here, order_RN = orders(features, 1, few_shot(draws=40))
    groups_N = features.train.groups_N[here]
    assert len(np.unique(order_RN, axis=0)) == 40
    sizes = np.unique(groups_N, return_counts=True)[1]
    assert sizes.max() > sizes.min()
    for order_N in order_RN:
        assert sorted(order_N) == list(range(len(here)))
        end = 0
        for turn in range(sizes.max()):  # all groups that have so many give one each
            start, end = end, end + np.count_nonzero(sizes > turn)
            assert len(set(groups_N[order_N[start:end]])) == end - start


def test_each_sample_of_a_group_comes_first_equally_often(features):
    here, order_RN = orders(features, 0, few_shot(draws=3000))
    groups_N = features.train.groups_N[here]
    first = np.bincount(order_RN[:, 0], minlength=len(here)) / 3000
    expected = 1 / len(np.unique(groups_N)) / np.array([np.count_nonzero(groups_N == group) for group in groups_N])
    np.testing.assert_allclose(first, expected, atol=4 * np.sqrt(expected.max() / 3000))


def test_the_draws_depend_on_labels_groups_and_seed_and_not_on_the_features(features):
    upset = replace(features, train=replace(features.train, features_ND=-features.train.features_ND[::-1]))
    one = orders(features, 2, few_shot())[1]
    assert np.array_equal(one, orders(upset, 2, few_shot())[1])
    assert not np.array_equal(one, orders(features, 2, few_shot(seed=1))[1])


def test_every_number_is_simpleshot_by_hand(features):
    protocol, classes = few_shot(shots=[4, 1], draws=5), range(3)
    result = protocol.run(features)
    assert sorted(result.results) == [f"{split}/{n}shot_balanced_accuracy" for split in ("test", "val") for n in (1, 4)]
    assert result.arrays["shots"].tolist() == [1, 4] and result.arrays["draws"].shape == (2, 5)
    centre = features.train.features_ND.astype(float).mean(axis=0)

    def unit(x):
        return (x - centre) / np.linalg.norm(x - centre, axis=-1, keepdims=True)

    for split, name in ((features.val, "val"), (features.test, "test")):
        for s, n in enumerate((1, 4)):
            accuracies = []
            for r in range(5):
                means = []
                for label in classes:
                    here, order_RN = orders(features, label, protocol)
                    means.append(unit(features.train.features_ND[here[order_RN[r, :n]]]).mean(axis=0))
                distances = [[np.linalg.norm(query - mean) for mean in means] for query in unit(split.features_ND)]
                accuracies.append(balanced_accuracy(split.labels_N, np.argmin(distances, axis=1)))
            assert result.results[f"{name}/{n}shot_balanced_accuracy"] == pytest.approx(np.mean(accuracies))
            if name == "test":
                np.testing.assert_allclose(result.arrays["draws"][s], accuracies)


def test_more_shots_are_better_and_easy_classes_are_told_apart_by_one(made_features):
    results = few_shot(draws=50).run(made_features(n_train=120, d=10, classes=3, distance=1)).results
    accuracies = [results[f"test/{n}shot_balanced_accuracy"] for n in (1, 2, 4, 8)]
    assert accuracies == sorted(accuracies) and accuracies[0] > 0.4
    easy = made_features(n_train=60, d=10, classes=3, distance=30)
    assert few_shot([1]).run(easy).results["test/1shot_balanced_accuracy"] == 1


def test_shots_that_train_lacks_are_left_out_and_said_once(features, caplog):
    fewest = np.bincount(features.train.labels_N).min()
    protocol = few_shot(shots=[1, int(fewest), int(fewest) + 1, 64])
    with caplog.at_level(logging.INFO):
        result = protocol.run(features)
        protocol.run(features)
    assert result.arrays["shots"].tolist() == [1, fewest]
    assert caplog.text.count(f"few_shot: {fewest + 1}, 64 images a class are left out") == 1
    with pytest.raises(UserError, match="smallest class of train"):
        few_shot(shots=[64]).run(features)


def test_chunks_of_queries_do_not_change_a_number(features, monkeypatch):
    whole = few_shot().run(features)
    monkeypatch.setattr("pathssl.probes.few_shot.SCORES_AT_ONCE", 100)
    assert few_shot().run(features).results == whole.results


def test_features_that_are_all_alike_give_chance(features):
    splits = {name: getattr(features, name) for name in ("train", "val", "test")}
    flat = {name: replace(split, features_ND=np.full_like(split.features_ND, 2.0)) for name, split in splits.items()}
    assert few_shot([2]).run(replace(features, **flat)).results["test/2shot_balanced_accuracy"] == pytest.approx(1 / 3)


def test_its_draws_are_kept_with_the_predictions_and_its_null_stands_beside(task):
    encoder = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
    probes = Probes({"colours": task}, {"few_shot": few_shot([1, 2])}, held_out_NHWC=None, batch_size=16,
                    mean=(0.5,) * 3, std=(0.25,) * 3)  # fmt: skip
    outcome = probes.run(encoder, device="cpu", with_nulls=True)
    kept = outcome.tasks["colours"].predictions
    assert outcome.metrics["probe/colours/few_shot/test/2shot_balanced_accuracy"] == kept["few_shot_draws"][1].mean()
    by_class = [kept["few_shot_hits"][1][kept["labels"] == label].mean() for label in range(3)]
    assert np.mean(by_class) == pytest.approx(kept["few_shot_draws"][1].mean())
    assert kept["few_shot_colour_histogram_draws"].shape == (2, 6) and "few_shot_scores" not in kept


@pytest.mark.parametrize("settings", [{"shots": []}, {"shots": [0, 1]}, {"draws": 0}, {"seed": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="few_shot"):
        few_shot(**settings)
