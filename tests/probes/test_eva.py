"""All runs at once are what each run alone is, written out plainly; the best state on validation counts, and patience ends a run."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from pathssl.errors import UserError
from pathssl.metrics import balanced_accuracy
from pathssl.probes.eva import Eva
from pathssl.probes.feature_set import Split

CONF = Path(__file__).resolve().parents[2] / "conf" / "probe"


def options(name, **changes):
    """The arguments of conf/probe/<name>.yaml, smaller."""
    block = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert block.pop("_target_") == "pathssl.probes.eva.Eva"
    block.pop("by_task", None)
    return block | {"device": "cpu", "runs": 3, "steps": 40, "batch": 32, "lr_batch": None} | changes


def one_run_by_hand(features, o, run):
    """Scores of val and test: a torch.nn.Linear, an optimiser and a loop over epochs; stops as `patience` looks say."""
    generator = torch.Generator().manual_seed(o["seed"] * 1000 + run)
    x, y = torch.from_numpy(features.train.features_ND), torch.from_numpy(features.train.labels_N)
    outputs = 1 if len(features.classes) == 2 else len(features.classes)
    layer = torch.nn.Linear(x.shape[1], outputs)
    drawn = torch.empty(outputs, x.shape[1] + 1).uniform_(
        -(x.shape[1] ** -0.5), x.shape[1] ** -0.5, generator=generator
    )
    with torch.no_grad():
        layer.weight.copy_(drawn[:, :-1])
        layer.bias.copy_(drawn[:, -1])
    if o["optimiser"] == "sgd":
        optimiser = torch.optim.SGD(layer.parameters(), o["lr"], momentum=o["momentum"])
    else:
        optimiser = torch.optim.AdamW(layer.parameters(), o["lr"], weight_decay=o["weight_decay"])
    best, waited, taken, epoch = (-1.0, None, 0), 0, 0, 0

    def scores(split):
        logits = layer(torch.from_numpy(split.features_ND)).detach()
        if outputs > 1:
            return logits.softmax(1).numpy()
        return torch.cat([1 - logits.sigmoid(), logits.sigmoid()], dim=1).numpy()

    while taken < o["steps"]:
        rate = (
            (1 + math.cos(math.pi * epoch / o["steps"])) / 2
            if o["schedule"] == "cosine"
            else 1
            if epoch >= 5
            else 1 / 3
        )
        optimiser.param_groups[0]["lr"] = o["lr"] * rate
        order = torch.randperm(len(x), generator=generator)
        for rows in order.split(o["batch"]):
            if taken == o["steps"]:
                return *best, epoch
            logits = layer(x[rows])
            loss = (
                F.cross_entropy(logits, y[rows])
                if outputs > 1
                else F.binary_cross_entropy_with_logits(logits[:, 0], y[rows].float())
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            taken += 1
        epoch += 1
        if epoch % o["look_every"]:
            continue
        right = scores(features.val).argmax(1) == features.val.labels_N
        plain = o["two_classes_by"] == "accuracy" and outputs == 1
        accuracy = right.mean() if plain else balanced_accuracy(features.val.labels_N, scores(features.val).argmax(1))
        if accuracy > best[0] + 1e-6:
            best, waited = (accuracy, {"val": scores(features.val), "test": scores(features.test)}, epoch), 0
        else:
            waited += 1
            if waited >= o["patience"]:
                break
    return *best, epoch


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("eva", {"lr": 0.003}),
        ("eva_2024", {"lr": 0.05}),
        ("eva", {"lr": 0.02, "patience": 2}),
        ("eva", {"lr": 0.02, "patience": 1, "look_every": 2}),
    ],
)
def test_runs_together_are_each_run_alone(name, more, classes, made_features):
    features = made_features(
        n_train=150, d=12, classes=classes, distance=0.3
    )  # 5 steps an epoch, the last of them smaller
    o = options(name, **{"patience": 100, **more})
    result = Eva(**o).run(features)
    alone = [one_run_by_hand(features, o, run) for run in range(o["runs"])]
    assert result.arrays["runs_val_best"] == pytest.approx([best for best, *_ in alone])
    assert result.arrays["epoch"].tolist() == [epoch for _, _, epoch, _ in alone]
    if "patience" in more:
        assert min(last for *_, last in alone) < 8  # ended early
        assert not (result.arrays["epoch"] % o["look_every"]).any()
    for split in ("val", "test"):
        np.testing.assert_allclose(
            result.scores[split], np.mean([scores[split] for _, scores, *_ in alone], axis=0), atol=1e-5
        )
        of_runs = [
            balanced_accuracy(getattr(features, split).labels_N, scores[split].argmax(1)) for _, scores, *_ in alone
        ]
        assert result.results[f"{split}/balanced_accuracy"] == pytest.approx(np.mean(of_runs))
        assert result.arrays[f"runs_{split}_balanced_accuracy"] == pytest.approx(of_runs)


@pytest.mark.parametrize(("name", "by"), [("eva", "balanced_accuracy"), ("eva_2024", "accuracy")])
def test_of_two_classes_the_state_is_chosen_by_what_evas_configurations_watch(name, by, made_features):
    """val/BinaryBalancedAccuracy today, val/BinaryAccuracy in 2024: where classes are not of one size, another epoch."""
    features = made_features(n_train=150, d=12, classes=2, distance=0.3)
    keep = np.flatnonzero((features.val.labels_N == 0) | (np.arange(len(features.val)) % 5 == 0))
    val = features.val
    few = Split(val.features_ND[keep], val.labels_N[keep], val.groups_N[keep], val.ids_N[keep])
    features = dataclasses.replace(features, val=few)
    o = options(name, patience=100, lr=0.05 if name == "eva_2024" else 0.003)
    assert o["two_classes_by"] == by
    chosen = {}
    for measure in ("balanced_accuracy", "accuracy"):
        changed = o | {"two_classes_by": measure}
        found = Eva(**changed).run(features).arrays
        alone = [one_run_by_hand(features, changed, run) for run in range(o["runs"])]
        assert found["runs_val_best"] == pytest.approx([best for best, *_ in alone])
        chosen[measure] = found["epoch"].tolist()
        assert chosen[measure] == [epoch for _, _, epoch, _ in alone]
    assert chosen["accuracy"] != chosen["balanced_accuracy"]


def test_the_learning_rate_follows_the_batch_where_it_has_one_to_follow():
    assert Eva(**options("eva_2024", lr_batch=4096, batch=256)).lr == 6.25e-4  # as BACH's configuration of 2024 has it
    assert Eva(**options("eva", batch=256)).lr == 3e-4


@pytest.mark.parametrize(("images", "batch", "patience"), [(268, 256, 1250), (3657, 256, 167), (1132, 256, 500), (100_000, 256, 7),
                                                           (15_303, 256, 42), (2175, 256, 278), (262_144, 256, 3)])  # fmt: skip
def test_a_fifth_of_the_epochs_is_the_patience_that_eva_writes_down_for_each_task(images, batch, patience):
    assert Eva(**options("eva", steps=12500, batch=batch)).looks(images) == patience


def test_configs_of_earlier_runs_choose_as_they_did():
    earlier = options("eva_2024")
    del earlier["two_classes_by"]
    assert (
        Eva(**earlier).measure(2) == "balanced_accuracy"
        and Eva(**options("eva_2024")).measure(3) == "balanced_accuracy"
    )


def test_runs_differ_and_come_again(made_features):
    features = made_features(n_train=90, d=8, classes=3, distance=0.2)
    result, again = (Eva(**options("eva")).run(features) for _ in range(2))
    assert np.array_equal(result.scores["test"], again.scores["test"]) and result.results == again.results
    other = Eva(**options("eva", seed=1)).run(features)
    assert not np.array_equal(result.scores["test"], other.scores["test"])


def test_fewer_steps_than_an_epoch_give_what_they_led_to(made_features):
    features = made_features(n_train=90, d=8, classes=3, distance=0.2)
    result = Eva(**options("eva", steps=2)).run(features)
    assert result.arrays["epoch"].tolist() == [0, 0, 0] and np.allclose(result.scores["val"].sum(axis=1), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "adam"},
        {"schedule": "linear"},
        {"runs": 0},
        {"patience": 1.5},
        {"lr": -1},
        {"look_every": 0},
        {"two_classes_by": "f1"},
    ],
)
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(UserError, match="eva: "):
        Eva(**options("eva", **change))
