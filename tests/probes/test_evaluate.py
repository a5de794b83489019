"""All probes of an encoder: keys, what is stored, nulls beside it, and the same numbers each time."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.metrics import balanced_accuracy, odcorr, rankme
from pathssl.probes.evaluate import Probes, unsupervised
from pathssl.probes.knn import KNN
from pathssl.probes.linear import Linear
from pathssl.probes.segmentation.protocol import linear_heads
from pathssl.probes.segmentation.task import SegmentationTask

HEADS = {"runs": 1, "steps": 1, "batch_size": 1, "lr": 1, "lr_power": 0, "weight_decay": 0, "checks": 1}
HEADS |= {"standardise": False}
NORM = {"batch_size": 16, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


@pytest.fixture
def protocols():
    return {
        "knn": KNN(ks=[1, 5], temperature=0.07),
        "linear": Linear(c_grid=[0.01, 1], tolerance=1e-4, max_iterations=500),
    }


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 12))


@pytest.fixture
def held_out():
    return np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


def run(task, protocols, encoder, held_out=None, with_nulls=False):
    probes = Probes({"colours": task}, protocols, held_out_NHWC=held_out, **NORM)
    return probes.run(encoder, device="cpu", with_nulls=with_nulls)


def test_the_keys_are_those_of_the_run_folder(task, protocols, encoder, held_out):
    outcome = run(task, protocols, encoder, held_out)
    assert sorted(outcome.metrics) == [
        *(
            f"probe/colours/{protocol}/{split}/{metric}"
            for protocol in ("knn", "linear")
            for split in ("test", "val")
            for metric in ("auroc", "balanced_accuracy", "f1")
        ),
        "unsupervised/odcorr",
        "unsupervised/rankme",
    ]
    assert json.loads(json.dumps(outcome.metrics)) == outcome.metrics
    assert all(
        outcome.metrics[f"probe/colours/{key}"] == value for key, value in outcome.tasks["colours"].results.items()
    )


def test_the_stored_predictions_give_the_reported_number_again_without_pickles(task, protocols, encoder, tmp_path):
    outcome = run(task, protocols, encoder).tasks["colours"]
    np.savez(tmp_path / "a.npz", **outcome.predictions)
    stored = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert str(stored["split"]) == "test" and stored["classes"].tolist() == ["blue", "green", "red"]
    for k in range(24):
        name, group, label = stored["ids"][k], stored["groups"][k], int(stored["labels"][k])
        assert name.startswith(group.replace("test", "test_")) and int(group[4:]) % 3 == label
    for protocol in protocols:
        again = balanced_accuracy(stored["labels"], stored[f"{protocol}_scores"].argmax(axis=1))
        assert again == outcome.results[f"{protocol}/test/balanced_accuracy"]
        confusion = stored[f"{protocol}_confusion"]
        assert confusion.sum(axis=1).tolist() == [8, 8, 8]
        assert (confusion.diagonal() / 8).mean() == pytest.approx(again)
    assert stored["knn_k"] in (1, 5) and stored["linear_C"] in (0.01, 1)


def test_the_colour_null_stands_beside_and_does_not_depend_on_the_encoder(task, protocols, encoder):
    first = run(task, protocols, encoder, with_nulls=True)
    nn.init.zeros_(encoder[2].weight)
    second = run(task, protocols, encoder, with_nulls=True)
    key = "probe/colours/linear_colour_histogram/test/balanced_accuracy"
    assert first.metrics[key] == second.metrics[key] > 0.95
    assert second.metrics["probe/colours/linear/test/balanced_accuracy"] == pytest.approx(1 / 3)
    assert "linear_colour_histogram_scores" in first.tasks["colours"].predictions


def test_random_weights_stand_beside_made_once_or_are_the_encoder_itself(task, protocols, encoder):
    made = []

    def random_weights():
        made.append(nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 12)))
        return made[-1]

    probes = Probes({"colours": task}, protocols, held_out_NHWC=None, **NORM | {"random_weights": random_weights})
    outcome = probes.run(encoder, device="cpu", with_nulls=True)
    (other,) = made
    key = "probe/colours/knn{}/test/auroc"
    assert outcome.metrics[key.format("_random_weights")] == run(task, protocols, other).metrics[key.format("")]
    assert not any("random_weights" in name for name in probes.run(encoder, device="cpu", with_nulls=False).metrics)
    itself = run(task, protocols, encoder, with_nulls=True).metrics
    assert itself[key.format("_random_weights")] == itself[key.format("")] == outcome.metrics[key.format("")]


def test_probing_twice_gives_the_same_numbers(task, protocols, encoder, held_out):
    assert run(task, protocols, encoder, held_out).metrics == run(task, protocols, encoder, held_out).metrics


def test_label_free_metrics_are_of_the_held_out_patches(protocols, held_out):
    class Colours(nn.Module):
        def forward(self, images_BCHW):
            return images_BCHW.mean(dim=(2, 3))

    outcome = Probes({}, protocols, held_out_NHWC=held_out, **NORM).run(Colours(), device="cpu", with_nulls=True)
    features = ((held_out / 255 - 0.5) / 0.25).mean(axis=(1, 2))
    assert outcome.metrics == pytest.approx(
        {"unsupervised/rankme": rankme(features), "unsupervised/odcorr": odcorr(features)}, rel=1e-4
    )
    assert unsupervised(features).keys() == outcome.metrics.keys()


def test_fewer_held_out_patches_than_features_are_refused(task, protocols, encoder, held_out):
    with pytest.raises(UserError, match="at least 12 held-out patches"):
        run(task, protocols, encoder, held_out[:11])


def test_tasks_without_a_protocol_are_refused(task):
    with pytest.raises(UserError, match=r"no protocol: give probe=\[linear\]"):
        Probes({"colours": task}, {}, held_out_NHWC=None, **NORM)


def test_a_task_without_a_protocol_of_its_kind_is_refused(task, protocols):
    with pytest.raises(UserError, match=r"Task colours is of images.*probe=\[masks,linear\]"):
        Probes({"colours": task}, {"masks": linear_heads(**HEADS)}, held_out_NHWC=None, **NORM)
    task.__class__ = SegmentationTask
    with pytest.raises(UserError, match=r"Task colours is of masks.*probe=\[knn,linear,seg_linear\]"):
        Probes({"colours": task}, protocols, held_out_NHWC=None, **NORM)
