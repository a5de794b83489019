"""Groups never straddle splits, and a validation split is a fair, fixed part of train."""

import numpy as np
import pytest

from pathssl.errors import UserError
from pathssl.probes.splits import check_groups, take_validation


def test_a_group_in_two_splits_is_refused_by_name():
    groups = np.array(["a", "a", "b", "b", "c"])
    with pytest.raises(UserError, match="group 'b' has samples in test and train"):
        check_groups(groups, np.array(["train", "train", "train", "test", "val"]), "labels.csv")
    check_groups(groups, np.array(["train", "train", "test", "test", "val"]), "labels.csv")


@pytest.mark.parametrize("n_groups", [20, 5])
def test_whole_groups_are_taken_with_every_class_in_both_parts(n_groups):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, n_groups, 600)  # cases, each with every class
    labels = rng.choice(3, 600, p=[0.6, 0.3, 0.1])
    val, lacking = take_validation(labels, groups.astype(str), 0.2, "labels.csv")
    assert not set(groups[val]) & set(groups[~val])
    assert set(labels[val]) == set(labels[~val]) == {0, 1, 2} and lacking == 0
    assert 0.1 < val.mean() < 0.3


def test_groups_of_one_class_each_give_every_class_its_share():
    groups = np.repeat(np.arange(60), 4)
    labels = groups % 3
    val, _ = take_validation(labels, groups.astype(str), 0.2, "labels.csv")
    assert np.bincount(labels[val]).tolist() == [16, 16, 16]


def test_without_groups_samples_are_taken_by_class():
    labels = np.repeat([0, 1], [100, 20])
    val, _ = take_validation(labels, None, 0.2, "labels.csv")
    assert np.bincount(labels[val]).tolist() == [20, 4]


def test_it_is_the_same_each_time():
    labels = np.arange(100) % 4
    first, second = (take_validation(labels, None, 0.25, "labels.csv")[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_a_class_of_one_group_stays_in_train_and_is_counted():
    groups = np.array([f"g{k}" for k in [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4]])
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    val, lacking = take_validation(labels, groups, 0.3, "labels.csv")
    assert set(labels[~val]) == {0, 1} and lacking == 1


def test_too_little_to_divide_is_refused():
    with pytest.raises(UserError, match="cannot be taken from the 1 groups of train"):
        take_validation(np.array([0, 1, 0, 1]), np.array(["a"] * 4), 0.2, "labels.csv")
    with pytest.raises(UserError, match="without losing a class"):
        take_validation(np.array([0, 0, 1, 1]), np.array(["a", "a", "b", "b"]), 0.5, "labels.csv")
