"""Gated attention is that of the paper, its runs share nothing, and it finds the one patch that a mean drowns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pathssl.errors import UserError
from pathssl.probes.evaluate import Probes
from pathssl.probes.feature_set import FeatureSet, Split
from pathssl.probes.linear import Linear
from pathssl.probes.slide_level.abmil import Attention, GatedAttention, _padded


def attention(**settings):
    defaults = {"hidden": 16, "lr": 3e-3, "weight_decay": 1e-2, "batch": 8, "epochs": 40, "patience": 10, "runs": 3}
    return GatedAttention(**(defaults | {"seed": 0, "device": "cpu"} | settings))


def needles(*, slides: int, patches: int = 30, d: int = 8, seed: int = 0) -> FeatureSet:
    """Slides of noise with both signs of a marked direction; of class 1 where one patch is far out along it."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        labels = np.arange(n) % 2
        bags = [rng.normal(size=(patches + k % 5, d)).astype(np.float32) for k in range(n)]
        for bag_MD, label in zip(bags, labels, strict=True):
            bag_MD[:, 0] *= 2
            bag_MD[rng.integers(len(bag_MD)), 1] = 5 * label
        names = np.array([f"{n}_{k:03d}" for k in range(n)])
        return Split(np.stack([bag.mean(axis=0) for bag in bags]), labels, names, names, bags)

    return FeatureSet(("none", "needle"), split(slides), split(slides // 2), split(slides))


def test_the_model_is_ilses_gated_attention():
    model = Attention(5, 4, 3, [torch.Generator().manual_seed(k) for k in range(2)])
    bags = [torch.randn(m, 5, generator=torch.Generator().manual_seed(m)) for m in (3, 1, 6)]
    logits_RBK = model(*_padded(bags, torch.tensor([[0, 2], [1, 0]]), "cpu")).detach().numpy()
    for r, row in enumerate([[0, 2], [1, 0]]):
        v, u, w, c = (
            layer[r].detach().numpy() for layer in (model.tanh, model.gate, model.attention, model.classifier)
        )
        for b, bag in enumerate(row):
            h = bags[bag].numpy()
            gated = np.tanh(h @ v[:-1] + v[-1]) / (1 + np.exp(-(h @ u[:-1] + u[-1])))
            a = np.exp(gated @ w[:-1, 0] + w[-1, 0])
            expected = (a / a.sum()) @ h @ c[:-1] + c[-1]
            np.testing.assert_allclose(logits_RBK[r, b], expected, rtol=1e-4, atol=1e-5)


def test_it_finds_the_patch_that_tells_where_the_mean_of_all_does_not():
    features = needles(slides=60, patches=20)
    mean = Linear(c_grid=[1e-3, 0.1, 10], tolerance=1e-4, max_iterations=500).run(features)
    learned = attention(runs=1).run(features)
    assert learned.results["test/balanced_accuracy"] > mean.results["test/balanced_accuracy"] + 0.1
    assert learned.results["test/balanced_accuracy"] > 0.9


def test_runs_are_those_that_would_be_trained_without_the_others():
    features = needles(slides=24)
    two, three = attention(runs=2, epochs=8).run(features), attention(runs=3, epochs=8).run(features)
    np.testing.assert_array_equal(two.arrays["epoch"], three.arrays["epoch"][:2])
    key = "runs_test_balanced_accuracy"
    np.testing.assert_allclose(two.arrays[key], three.arrays[key][:2])
    assert len(set(three.arrays["epoch"])) > 1 or len(set(three.arrays[key])) > 1  # they do differ
    assert three.results["test/balanced_accuracy"] == pytest.approx(three.arrays[key].mean())
    np.testing.assert_allclose(three.scores["test"].sum(axis=1), 1)


def test_the_state_with_the_smallest_validation_loss_counts_and_a_run_that_has_waited_in_vain_is_over():
    features = needles(slides=40)
    flipped = replace(features, val=replace(features.val, labels_N=1 - features.val.labels_N))
    result = attention(patience=3, epochs=30).run(flipped)  # the more is learned the worse it is, on this validation
    assert result.arrays["epoch"].max() < 10
    assert (attention(patience=10, epochs=30).run(features).arrays["epoch"] > 10).all()


def test_the_same_numbers_each_time_and_whatever_test_says():
    features = needles(slides=20)
    one = attention(epochs=5).run(features)
    assert attention(epochs=5).run(features).results == one.results
    upset = replace(features, test=replace(features.test, labels_N=1 - features.test.labels_N))
    np.testing.assert_array_equal(attention(epochs=5).run(upset).scores["test"], one.scores["test"])
    assert attention(epochs=5, seed=1).run(features).scores["test"].tolist() != one.scores["test"].tolist()


def test_tasks_of_images_are_passed_over_and_it_alone_is_refused_for_them(task):
    norm = {"held_out_NHWC": None, "batch_size": 16, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    encoder = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
    both = {"linear": Linear(c_grid=[1], tolerance=1e-4, max_iterations=100), "slide_abmil": attention()}
    metrics = Probes({"colours": task}, both, **norm).run(encoder, device="cpu", with_nulls=False).metrics
    assert len(metrics) == 6 and all("/linear/" in key for key in metrics)
    with pytest.raises(UserError, match="Task colours is of images, which none of the protocols slide_abmil is for"):
        Probes({"colours": task}, {"slide_abmil": attention()}, **norm)


@pytest.mark.parametrize("settings", [{"runs": 0}, {"lr": 0}, {"seed": -1}, {"device": "tpu"}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="slide_abmil"):
        attention(**settings)
