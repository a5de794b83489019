"""Dice and mIoU against hand computations, and against MONAI's definition where an image lacks a class."""

import numpy as np
import pytest

from pathssl.metrics import confusion, dice, miou

# Of 10 pixels, 4 are truly of class 1: 3 found, 1 missed; 2 of the background are taken for class 1.
ONE = np.array([[4, 2], [1, 3]])


def test_pixels_are_counted_by_true_row_and_predicted_column_and_others_are_not():
    labels = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    predictions = np.array([[0, 1, 1], [0, 2, 1]])
    assert confusion(labels, predictions, 3).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_of_one_image_by_hand():
    assert dice(ONE[None], 0) == pytest.approx(2 * 3 / (4 + 5))
    assert miou(ONE[None], 0) == pytest.approx(3 / 6)
    assert dice(ONE[None], None) == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert miou(ONE[None], None) == pytest.approx((3 / 6 + 4 / 7) / 2)


def test_dice_is_a_mean_over_images_and_miou_is_of_all_pixels_together():
    two = np.stack([ONE, 10 * np.array([[5, 0], [5, 0]])])
    assert dice(two, 0) == pytest.approx((6 / 9 + 0) / 2)
    assert miou(two, 0) == pytest.approx(3 / (54 + 2))


def test_an_image_counts_in_dice_by_the_classes_that_its_mask_has():
    without = np.array([[7, 3], [0, 0]])  # no class 1, and some was predicted
    assert dice(np.stack([ONE, without]), 0) == pytest.approx(6 / 9)
    assert miou(np.stack([ONE, without]), 0) == pytest.approx(3 / (6 + 3))
    three = np.array([[5, 0, 1], [0, 2, 0], [0, 0, 0]])  # class 2 is predicted only
    assert dice(three[None], 0) == pytest.approx(1.0)


def test_where_no_image_has_a_class_there_is_no_number():
    assert np.isnan(dice(np.array([[[7, 3], [0, 0]]]), 0)) and np.isnan(miou(np.array([[[7, 3], [0, 0]]]), 0))


def test_a_perfect_and_an_empty_prediction():
    labels = np.array([[0, 1], [2, 1]])
    assert dice(confusion(labels, labels, 3)[None], 0) == miou(confusion(labels, labels, 3)[None], 0) == 1.0
    nothing = confusion(labels, np.zeros_like(labels), 3)[None]
    assert dice(nothing, 0) == miou(nothing, 0) == 0.0


def test_anything_but_confusion_matrices_is_refused():
    with pytest.raises(ValueError, match=r"\(N, K, K\), got \(2, 2\)"):
        dice(ONE, 0)
