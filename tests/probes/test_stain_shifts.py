"""Stain shifts are those of the released code, the same for all encoders; distances and flips are counted by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from einops import rearrange
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import nn

from pathssl.errors import UserError
from pathssl.probes.evaluate import Probes
from pathssl.probes.feature_set import ProtocolResult
from pathssl.probes.few_shot import FewShot
from pathssl.probes.folder import folder_task
from pathssl.probes.knn import KNN
from pathssl.probes.linear import Linear
from pathssl.probes.slide_level.bags import BagTask
from pathssl.probes.stain_shifts import StainShifts, flips, shift

NORM = {"batch_size": 16, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
KNNS = {"knn": KNN(ks=[3], temperature=0.07)}


def stains(sigmas=(0.05, 0.2), patches=20, seed=0):
    return StainShifts(sigmas, patches=patches, seed=seed)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def encoder():
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten())


def as_released(image_HWC, alpha, beta):
    """rgb2hed, alpha s + beta and hed2rgb of https://github.com/DIAGNijmegen/pathology-he-auto-augment, in float64."""
    stains = -np.log(image_HWC / 255 + 2) @ hed_from_rgb
    return np.clip(np.exp(-(stains * alpha + beta) @ rgb_from_hed) - 2, 0, 1)


def test_a_shift_is_that_of_the_code_that_tellez_group_released(images):
    rng = np.random.default_rng(1)
    alpha, beta = rng.uniform(0.8, 1.2, (60, 3)), rng.uniform(-0.2, 0.2, (60, 3))
    expected = np.stack([255 * as_released(*each) for each in zip(images, alpha, beta, strict=True)])
    assert np.abs(shift(images, alpha, beta) - expected).max() <= 0.51
    assert np.array_equal(shift(images, np.ones((60, 3)), np.zeros((60, 3))), images)


def test_draws_fill_the_published_range_and_do_not_depend_on_batches(images):
    one = next(stains().shifted([images], 0.2))
    parts = np.concatenate(list(stains().shifted([images[:7], images[7:]], 0.2)))
    assert np.array_equal(one, parts)
    assert not np.array_equal(one, next(stains(seed=1).shifted([images], 0.2)))
    grey = np.full((400, 1, 1, 3), 128, np.uint8)
    moved = {sigma: next(stains().shifted([grey], sigma)).astype(int)[:, 0, 0] - 128 for sigma in (0.05, 0.2)}
    # the same draws, four times as far: all colours move both ways
    assert np.corrcoef(moved[0.05].ravel(), moved[0.2].ravel())[0, 1] > 0.9
    assert (moved[0.05].min(axis=0) < -15).all() and (moved[0.05].max(axis=0) > 15).all()


def test_the_distance_of_held_out_patches_is_relative_to_that_between_patches(images, encoder):
    probes = Probes({}, {}, held_out_NHWC=images, stains=stains(), **NORM)
    metrics = probes.run(encoder, device="cpu", with_nulls=False).metrics
    colours = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())

    def unit(batch_NHWC):
        x = encoder((torch.from_numpy(rearrange(batch_NHWC, "n h w c -> n c h w")).float() / 255 - 0.5) / 0.25).numpy()
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    before = unit(images[:20])
    apart = np.mean([1 - a @ b for i, a in enumerate(before) for j, b in enumerate(before) if i != j])
    assert metrics["unsupervised/apart"] == pytest.approx(apart, rel=1e-4)
    for sigma in (0.05, 0.2):
        after = unit(next(stains().shifted([images[:20]], sigma)))
        by_hand = np.mean([1 - a @ b for a, b in zip(before, after, strict=True)]) / apart
        assert metrics[f"unsupervised/stain_distance_{sigma}"] == pytest.approx(by_hand, rel=1e-4)
    assert metrics["unsupervised/stain_distance_0.05"] < metrics["unsupervised/stain_distance_0.2"]
    of_colours = Probes({}, {}, held_out_NHWC=images, stains=stains(), **NORM).run(
        colours, device="cpu", with_nulls=False
    )
    assert of_colours.metrics["unsupervised/stain_distance_0.05"] > metrics["unsupervised/stain_distance_0.05"]


def test_without_sigmas_nothing_is_recorded_of_shifts(images, encoder):
    probes = Probes({}, {}, held_out_NHWC=images, stains=stains([]), **NORM)
    metrics = probes.run(encoder, device="cpu", with_nulls=False).metrics
    assert metrics.keys() == {"unsupervised/rankme", "unsupervised/odcorr"}


def test_flips_are_the_changed_predictions_of_the_same_heads_on_some_test_images(task, encoder):
    probes = Probes({"colours": task}, KNNS, held_out_NHWC=None, stains=stains(patches=10), **NORM)
    outcome = probes.run(encoder, device="cpu", with_nulls=True)
    keys = {key for key in outcome.metrics if "stain" in key}
    assert keys == {
        f"probe/colours/{protocol}/test/stain_flips_{sigma}"
        for protocol in ("knn", "knn_colour_histogram", "knn_random_weights")
        for sigma in (0.05, 0.2)
    }
    rows = task.some_of("test", 10, 0)
    assert len(rows) == 10 and (task.splits_N[rows] == "test").all() and (np.diff(rows) > 0).all()

    def predicted(images_NHWC, shifted=False):
        features = task.feature_set(probes._extract(encoder, task.batches(16), "cpu"))
        batches = stains().shifted([images_NHWC], 0.2) if shifted else [images_NHWC]
        queries = task.split_of(rows, probes._extract(encoder, batches, "cpu"))
        return KNNS["knn"].run(replace(features, test=queries)).scores["test"].argmax(axis=1)

    images = np.concatenate(list(task.batches(16)))[rows]
    expected = np.mean(predicted(images) != predicted(images, shifted=True))
    assert outcome.metrics["probe/colours/knn/test/stain_flips_0.2"] == expected > 0


def test_a_head_that_looks_at_no_colour_does_not_flip(task):
    grey = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())
    nothing = nn.Sequential(grey, nn.Linear(3, 4))
    nn.init.zeros_(nothing[1].weight)
    protocols = {
        "linear": Linear(c_grid=[1], tolerance=1e-4, max_iterations=100),
        "few": FewShot(shots=[1], draws=2, seed=0),
    }
    probes = Probes({"colours": task}, protocols, held_out_NHWC=None, stains=stains(), **NORM)
    metrics = probes.run(nothing, device="cpu", with_nulls=False).metrics
    assert metrics["probe/colours/linear/test/stain_flips_0.2"] == 0
    assert not any("stain" in key for key in metrics if "/few/" in key)  # which has many heads


def test_flips_without_a_test_split_are_of_validation(made_features):
    features = made_features(n_train=30, d=3, classes=2, distance=1, test=False)
    order = np.argsort(features.val.ids_N)
    columns = ("features_ND", "labels_N", "groups_N", "ids_N")
    val = replace(features.val, **{name: getattr(features.val, name)[order] for name in columns})
    some = replace(val, **{name: getattr(val, name)[[1, 4]] for name in columns})
    features = replace(features, val=val, shifted={"val_stain_0.05": some})
    before = np.eye(2)[np.zeros(len(val), int)]
    result = ProtocolResult({}, {"val": before, "val_stain_0.05": np.eye(2)[[0, 1]]}, {})
    assert flips(features, result) == {"val/stain_flips_0.05": 0.5}


def test_slides_are_shifted_whole(folder, rows, settings):
    table = pd.DataFrame(rows).rename(columns={"group_id": "bag"})
    task = BagTask(table, folder=folder, source="here", **settings)
    assert len(task.some_of("test", 9, 0)) == 8 and len(task.some_of("test", 1, 0)) == 4
    assert len(set(task.bags_N[task.some_of("test", 9, 0)])) == 2
    split = stains(patches=9).splits(task, lambda batches: np.concatenate(list(batches)).mean(axis=(1, 2)), 16)
    assert len(split["test_stain_0.05"]) == 2 and len(split["test_stain_0.05"].bags[0]) == 4


def test_some_images_are_the_same_decoded_before_or_now(task, folder, settings):
    rows = np.array([3, 17, 18, 40])
    fresh = folder_task(path=str(folder), **(settings | {"cache_mib": 0}))
    whole = np.concatenate(list(task.batches(16)))
    for some in (task, fresh):
        np.testing.assert_array_equal(np.concatenate(list(some.images.some(rows, 3))), whole[rows])


@pytest.mark.parametrize("wrong", [{"sigmas": [0]}, {"sigmas": [0.1, 0.1]}, {"sigmas": [2]}, {"patches": 1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError, match="robustness"):
        stains(**wrong)
