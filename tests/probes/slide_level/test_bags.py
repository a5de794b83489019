"""Slides as bags of images: one row a slide, checked, and a label that the synthetic cohort's cases are given."""

import numpy as np
import pytest
from torch import nn

from pathssl.errors import UserError
from pathssl.probes.evaluate import Probes
from pathssl.probes.folder import read_labels
from pathssl.probes.knn import KNN
from pathssl.probes.slide_level.bags import BagTask, bags_task
from pathssl.probes.slide_level.synthetic import slides_of, synthetic_cases
from pathssl.sources import task_hash

NORM = {"batch_size": 16, "mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture
def slides(tmp_path, rows, write_folder):
    """Each case of four images as two slides of two."""
    for row in rows:
        row["bag"] = f"{row['group_id']}_{int(row['path'][-5]) // 2}"
    write_folder(tmp_path / "slides", rows)
    return tmp_path / "slides"


def without(rows, column):
    return [{key: value for key, value in row.items() if key != column} for row in rows]


def test_a_slide_is_one_sample_with_the_mean_of_its_patches(slides, settings):
    task = bags_task(path=str(slides), **settings)
    features_ND = np.arange(len(task))[:, None] * np.array([1.0, 10], np.float32)
    features = task.feature_set(features_ND)
    assert [len(features.train), len(features.val), len(features.test)] == [24, 6, 12]
    for split in (features.train, features.test):
        for k, name in enumerate(split.ids_N):
            own = [row for row, bag in enumerate(task.bags_N) if bag == name]
            np.testing.assert_array_equal(split.bags[k], features_ND[own])
            np.testing.assert_allclose(split.features_ND[k], features_ND[own].mean(axis=0))
            assert split.groups_N[k] == name.split("_")[0] and split.labels_N[k] == task.labels_N[own[0]]
    assert task.describe()["splits"]["train"] | {"per_class": None} == {
        "samples": 48, "groups": 12, "bags": 24, "per_class": None,
    }  # fmt: skip


def test_every_protocol_works_on_slides_and_its_predictions_are_by_slide(slides, settings):
    task = bags_task(path=str(slides), **settings)
    probes = Probes({"slides": task}, {"knn": KNN(ks=[1], temperature=0.07)}, held_out_NHWC=None, **NORM)
    outcome = probes.run(nn.Sequential(nn.AvgPool2d(16), nn.Flatten()), device="cpu", with_nulls=True)
    assert outcome.metrics["probe/slides/knn/test/balanced_accuracy"] > 0.9
    kept = outcome.tasks["slides"].predictions
    assert kept["knn_scores"].shape == (12, 3) and kept["ids"].tolist()[:2] == ["test0_0", "test0_1"]


def test_a_slide_is_a_group_of_its_own_where_none_is_given(slides, settings, rows, write_labels):
    write_labels(slides, without([row for row in rows if row["split"] == "train"], "group_id"))
    features = bags_task(path=str(slides), **settings).feature_set(np.zeros((48, 2), np.float32))
    assert features.train.groups_N.tolist() == features.train.ids_N.tolist()
    assert not set(features.train.ids_N) & set(features.val.ids_N) and len(features.val) >= 4


@pytest.mark.parametrize("column", ["label", "split", "group_id"])
def test_a_slide_with_two_labels_splits_or_groups_is_refused(slides, settings, rows, write_labels, column):
    rows[0][column] = {"label": "red", "split": "test", "group_id": "other"}[column]
    write_labels(slides, rows)
    with pytest.raises(UserError, match=f"bag 'train0_0' has images of {column.removesuffix('_id')} .* Give one"):
        bags_task(path=str(slides), **settings)


def test_a_folder_without_the_column_is_told_of_it(slides, settings, rows, write_labels):
    write_labels(slides, without(rows, "bag"))
    with pytest.raises(UserError, match="lacks the column bag"):
        bags_task(path=str(slides), **settings)


def test_another_way_to_put_patches_into_slides_is_another_task(slides, settings):
    task = bags_task(path=str(slides), **settings)
    before = task_hash(task)
    task.bags_N[:2] = task.bags_N[1::-1]
    task.bags_N[0] = task.bags_N[-1]
    assert task_hash(task) != before


def test_slides_of_the_synthetic_cohort_share_no_patch_and_half_of_each_case_hold_tumour(cohort):
    patches = read_labels(cohort / "labelled" / "labels.csv")
    table = slides_of(patches, slides_per_case=4, tumour_patches=2)
    assert table["path"].is_unique and table["bag"].nunique() == 4 * patches["group"].nunique()
    tissue = table["path"].str.split("/").str[0]
    for _, bag in table.assign(tissue=tissue).groupby("bag"):
        counts = bag["tissue"].value_counts()
        assert counts.get("tumour", 0) == (2 if bag["label"].iloc[0] == "tumour" else 0)
        assert (counts.drop("tumour", errors="ignore") == 1).all() and counts.index.nunique() >= 5
    assert (table.groupby("group")["bag"].nunique() == 4).all()
    assert (table.drop_duplicates("bag").groupby("group")["label"].value_counts() == 2).all()
    with pytest.raises(UserError, match="no more than the 4 patches"):
        slides_of(patches, slides_per_case=4, tumour_patches=3)


def test_the_synthetic_task_is_split_by_case(cohort):
    settings = {"image_px": 64, "val_fraction": 0.2, "threads": 1, "cache_mib": 10}
    task = synthetic_cases(path=str(cohort / "labelled"), slides_per_case=2, tumour_patches=1, **settings)
    assert isinstance(task, BagTask) and task.classes == ("none", "tumour")
    features = task.feature_set(np.zeros((len(task), 3), np.float32))
    splits = [set(split.groups_N) for split in (features.train, features.val, features.test)]
    assert all(splits) and not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
