"""A labelled folder is checked before anything is trained, and divided in a fixed way."""

import logging

import numpy as np
import pytest

from pathssl.errors import UserError
from pathssl.probes.folder import folder_task


@pytest.fixture
def build(settings):
    return lambda folder, **changed: folder_task(path=str(folder), **(settings | changed))


def test_a_good_folder_gives_its_splits_classes_and_images(task):
    assert task.classes == ("blue", "green", "red")
    features = task.feature_set(np.arange(len(task), dtype=np.float32)[:, None])
    assert (len(features.train), len(features.val), len(features.test)) == (48, 12, 24)
    assert [name.split("_")[0] for name in features.test.ids_N] == ["test"] * 24
    for split in (features.train, features.val, features.test):  # a row of features stays with its sample
        assert np.array_equal(task.ids_N[split.features_ND[:, 0].astype(int)], split.ids_N)
    images = np.concatenate(list(task.batches(10)))
    assert images.shape == (84, 16, 16, 3) and images.dtype == np.uint8
    assert task.describe()["splits"]["test"] == {
        "samples": 24, "groups": 6, "per_class": {"blue": 8, "green": 8, "red": 8},
    }  # fmt: skip


def test_the_order_of_the_rows_does_not_matter(folder, rows, build, write_labels):
    for row in rows:
        row["split"] = row["split"].replace("val", "train")
    write_labels(folder, rows)
    first = build(folder)
    write_labels(folder, rows[::-1])
    second = build(folder)
    for name in ("ids_N", "labels_N", "groups_N", "splits_N"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_without_validation_whole_groups_of_train_are_taken_and_test_is_left_alone(
    tmp_path, build, make_rows, write_folder
):
    task = build(write_folder(tmp_path, make_rows({"train": 12, "test": 6})))
    groups = {name: set(task.groups_N[task.splits_N == name]) for name in ("train", "val", "test")}
    assert task.val_taken_from_train and len(groups["val"]) == 3 and len(groups["test"]) == 6
    assert not groups["val"] & groups["train"]
    assert set(task.labels_N[task.splits_N == "val"]) == {0, 1, 2}


def test_without_groups_each_image_stands_for_itself(tmp_path, build, make_rows, write_folder):
    rows = make_rows({"train": 12, "test": 6})
    for row in rows:
        del row["group_id"]
    task = build(write_folder(tmp_path, rows))
    assert np.array_equal(task.groups_N, task.ids_N) and (task.splits_N == "val").sum() == 12
    assert task.describe()["splits"]["val"]["groups"] is None


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_validation_has_several_names(folder, rows, name, build, write_labels):
    for row in rows:
        row["split"] = row["split"].replace("val", name)
    write_labels(folder, rows)
    assert (build(folder).splits_N == "val").sum() == 12


def test_labels_that_look_like_numbers_or_gaps_stay_text(tmp_path, rows, build, write_folder, write_labels):
    folder = write_folder(tmp_path, rows)
    for row in rows:
        row["label"] = {"blue": "NA", "green": "01", "red": "1"}[row["label"]]
    write_labels(folder, rows)
    assert build(folder).classes == ("01", "1", "NA")


def test_a_missing_test_split_is_warned_of(tmp_path, caplog, build, make_rows, write_folder):
    with caplog.at_level(logging.WARNING):
        task = build(write_folder(tmp_path, make_rows({"train": 9, "val": 3})))
    assert "no test split" in caplog.text
    assert task.feature_set(np.zeros((len(task), 2))).test is None


def change(column, value, n=1):
    return lambda _, rows: [row | {column: value} if k < n else row for k, row in enumerate(rows)]


def remove(pattern):
    def do(folder, _):
        for path in folder.glob(pattern):
            path.unlink()

    return do


def text(content):
    def do(folder, _):
        (folder / "labels.csv").write_bytes(content)

    return do


MISTAKES = {
    "no csv": (remove("labels.csv"), r"labels\.csv is not there.*path, label, split"),
    "empty file": (text(b""), "cannot be read"),
    "not UTF-8": (text(b"path,label,split\n\xff\xfe,a,train\n"), "cannot be read"),
    "ragged": (text(b"path,label,split\na,b,train\na,b,train,d,e\n"), "cannot be read"),
    "no rows": (text(b"path,label,split\n"), "no rows"),
    "other separator": (text(b"path;label;split\na;b;train\n"), "lacks the column path, label, split"),
    "no split column": (
        lambda _, rows: [{k: v for k, v in row.items() if k != "split"} for row in rows],
        r"lacks the column split \(found: path, label, group_id\)",
    ),
    "both group columns": (
        lambda _, rows: [row | {"group": "g"} for row in rows],
        "both columns group_id and group",
    ),
    "a row too short": (text(b"path,label,split\ntrain_0_0.png,a\n"), "1 rows have no split, the first on line 2"),
    "no label": (change("label", ""), "1 rows have no label, the first on line 2"),
    "no group": (change("group_id", " "), "1 rows have no group_id"),
    "one image missing": (change("path", "gone.png"), r"gone\.png not found under"),
    "two rows, one image": (change("path", "train_1_0.png", 2), "stands in more than one row"),
    "more missing": (
        remove("train_0_*.png"),
        r"train_0_0\.png and 3 more of 84 images not found",
    ),
    "unknown split": (change("split", "dev"), "unknown split 'dev'; allowed: train, val"),
    "straddling group": (change("split", "test"), "group 'train0' has samples in test and train"),
    "one class": (change("label", "red", 1000), "every label is 'red'"),
    "no train": (change("split", "test", 60), "no row has split train"),
    "class not in train": (
        lambda _, rows: [row for row in rows if row["split"] != "train" or row["label"] != "red"],
        "no train row has label 'red'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(folder, rows, mistake, build, write_labels):
    make, message = MISTAKES[mistake]
    changed = make(folder, rows)
    if changed is not None:  # else the files themselves were changed
        write_labels(folder, changed)
    with pytest.raises(UserError, match=message):
        build(folder)


@pytest.mark.parametrize("changed", [{"val_fraction": 0.0}, {"val_fraction": 0.9}, {"image_px": 0}, {"threads": 0}])
def test_impossible_settings_are_refused(folder, changed, build):
    with pytest.raises(UserError, match=next(iter(changed))):
        build(folder, **changed)
