"""Labelled whole slides: the same patches of each slide in any table, in batches of any size, and clear refusals."""

import csv

import numpy as np
import pytest

from pathssl.errors import UserError
from pathssl.probes.slide_level.slides import slides_task

FOREGROUND = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 32.0, "min_tissue": 0.4}


@pytest.fixture
def slides(cohort, index, tmp_path):
    """slides(rows, **settings): the task of the cohort's slides with these rows of slide number, label and split."""

    def made(rows=((0, "a", "train"), (1, "b", "train"), (2, "a", "val"), (3, "b", "test")), *, names=None, **settings):
        with open(tmp_path / "slides.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["slide", "label", "split"])
            writer.writerows([(names or index.paths)[k], label, split] for k, label, split in rows)
        defaults = {"mpp": 1.0, "patches": 5, "image_px": 48, "val_fraction": 0.5, "cache_mib": 0}
        defaults |= {"path": str(cohort), "manifest": cohort / "manifest.csv", "cache": cohort.parent / "index"}
        labels = str(tmp_path / "slides.csv")
        return slides_task(labels=labels, reader="auto", foreground=FOREGROUND, **(defaults | settings))

    return made


def pixels(task, batch_size=7):
    batches = list(task.batches(batch_size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    return np.concatenate(batches)


def test_each_slide_gives_its_patches_with_tissue_where_its_name_says(slides, index):
    task = slides()
    images = pixels(task)
    assert images.shape == (20, 48, 48, 3) and task.bags_N.tolist() == [name for name in index.paths for _ in range(5)]
    assert len(np.unique(images.reshape(20, -1), axis=0)) == 20
    assert (images.mean(axis=(1, 2, 3)) < 235).all()  # glass is white
    fewer = slides([(3, "b", "train"), (1, "a", "train"), (0, "b", "val")])
    np.testing.assert_array_equal(pixels(fewer), images[[*range(10), *range(15, 20)]])
    np.testing.assert_array_equal(pixels(slides(patches=3))[:3], images[:3])


def test_batches_and_memory_do_not_change_the_patches(slides):
    kept = slides(cache_mib=10)
    first = pixels(kept, 20)
    np.testing.assert_array_equal(first, pixels(kept, 3))
    np.testing.assert_array_equal(first, pixels(slides(), 1))


def test_features_are_kept_for_the_same_patches_of_the_same_slides_alone(slides):
    known = slides().data_hash()
    relabelled = slides([(0, "b", "train"), (1, "a", "val"), (2, "a", "train"), (3, "b", "test")])
    assert known == relabelled.data_hash() == slides(cache_mib=10).data_hash()
    others = [
        slides(patches=4),
        slides(image_px=32),
        slides(mpp=0.5),
        slides([(0, "a", "train"), (1, "b", "train"), (2, "a", "val")]),
    ]
    assert len({known, *(other.data_hash() for other in others)}) == 5


def test_slides_are_the_samples_and_their_cases_the_groups(slides, index):
    features = slides().feature_set(np.zeros((20, 2), np.float32))
    assert features.train.ids_N.tolist() == index.paths[:2] and features.train.groups_N.tolist() == index.case[:2]
    assert [len(bag) for bag in features.test.bags] == [5]


def test_slides_that_cannot_be_used_are_named(slides, index):
    with pytest.raises(UserError, match=r"nowhere.tif cannot be used: there is no such slide"):
        slides(names=["nowhere.tif", *index.paths[1:]])
    with pytest.raises(UserError, match="more than one row"):
        slides(names=[index.paths[1], *index.paths[1:]])
    with pytest.raises(UserError, match=r"has 0.5 um per pixel at its finest, too coarse for mpp=0.25"):
        slides(mpp=0.25)
    with pytest.raises(UserError, match=r"The slides of .*slides.csv, in /not/there: There is nothing at"):
        slides(path="/not/there")
    with pytest.raises(UserError, match="patches=0: give a whole number, at least 1"):
        slides(patches=0)


def test_a_case_with_slides_in_two_splits_is_refused(slides, index, tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("slide,case,site\n" + "".join(f"{name},one,s\n" for name in index.paths))
    with pytest.raises(UserError, match="group 'one' has samples in test and train"):
        slides([(0, "a", "train"), (1, "b", "train"), (2, "a", "test")], manifest=manifest)
