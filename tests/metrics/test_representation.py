"""RankMe and ODCorr on matrices whose answer is known."""

import numpy as np
import pytest
from scipy.linalg import hadamard

from pathssl.errors import UserError
from pathssl.metrics import apart, odcorr, rankme, shift_distance


def test_rankme_of_orthogonal_columns_is_their_number():
    assert rankme(hadamard(64)[:, :16]) == pytest.approx(16, rel=1e-4)


def test_rankme_of_one_direction_is_one():
    rng = np.random.default_rng(0)
    assert rankme(np.outer(rng.normal(size=200), rng.normal(size=32))) == pytest.approx(1, abs=1e-3)


def test_rankme_of_known_singular_values_is_the_exponential_of_their_entropy():
    u = hadamard(8) / np.sqrt(8)
    features = u[:, :3] * np.array([2.0, 1.0, 1.0])
    entropy = 0.5 * np.log(2) + 2 * 0.25 * np.log(4)
    assert rankme(features) == pytest.approx(np.exp(entropy), rel=1e-5)


def test_rankme_ignores_scale_and_rotation():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(300, 20)) * np.arange(1, 21)
    rotation, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    assert rankme(1000 * features @ rotation) == pytest.approx(rankme(features), rel=1e-9)


def test_rankme_of_a_collapsed_encoder_is_one_also_where_it_answers_zero():
    assert rankme(np.full((50, 8), 3.0)) == pytest.approx(1, abs=1e-3)
    assert rankme(np.zeros((50, 8))) == pytest.approx(1, abs=1e-3)


def test_rankme_refuses_fewer_samples_than_features():
    with pytest.raises(UserError, match="at least 32 held-out patches"):
        rankme(np.ones((31, 32)))


def test_rankme_of_float32_equals_float64():
    features = np.random.default_rng(2).normal(size=(300, 20)).astype(np.float32)
    assert rankme(features) == rankme(features.astype(np.float64))


def test_odcorr_of_uncorrelated_columns_is_zero():
    assert odcorr(hadamard(64)[:, 1:17]) == pytest.approx(0, abs=1e-12)


def test_odcorr_of_independent_columns_is_the_sampling_noise():
    features = np.random.default_rng(3).normal(size=(5000, 40))
    assert odcorr(features) == pytest.approx(np.sqrt(2 / (np.pi * 5000)), rel=0.1)


@pytest.mark.parametrize("sign", [1, -1])
def test_odcorr_of_copies_is_one_whatever_their_sign_scale_and_offset(sign):
    column = np.random.default_rng(4).normal(size=100)
    assert odcorr(np.stack([column, sign * 7 * column + 3, 0.1 * column], axis=1)) == pytest.approx(1)


def test_odcorr_of_three_columns_by_hand():
    # a and c are orthogonal and centred; b = a + c correlates with each by 1/sqrt(2): mean of (1/sqrt2, 0, 1/sqrt2).
    a, c = np.array([1.0, 1, -1, -1]), np.array([1.0, -1, 1, -1])
    assert odcorr(np.stack([a, a + c, c], axis=1)) == pytest.approx((2 / np.sqrt(2)) / 3)


def test_odcorr_leaves_constant_features_out_and_calls_a_collapse_the_worst():
    rng = np.random.default_rng(5)
    features = rng.normal(size=(100, 4))
    constant = np.full((100, 2), 5.0) + 1e-8 * rng.normal(size=(100, 2))
    assert odcorr(np.hstack([features, constant])) == pytest.approx(odcorr(features))
    assert odcorr(np.hstack([features[:, :1], constant])) == 1.0
    assert odcorr(np.zeros((100, 4))) == 1.0


@pytest.mark.parametrize("metric", [rankme, odcorr])
def test_fewer_samples_than_features_are_refused(metric):
    features = np.random.default_rng(6).normal(size=(7, 8))
    with pytest.raises(UserError, match=r"at least 8 held-out patches \(unsupervised\.patches\)"):
        metric(features)
    metric(np.vstack([features, features[::-1] ** 2]))


def test_the_distance_of_a_shift_by_hand():
    before = np.array([[2.0, 0], [0, 3]])  # at right angles: 1 apart, on average
    assert shift_distance(before, np.array([[5.0, 0], [1, 1]])) == pytest.approx((0 + (1 - 1 / np.sqrt(2))) / 2)
    assert shift_distance(before, before[::-1]) == pytest.approx(1)
    opposite = np.array([[1.0, 0], [-1, 0]])  # 2 apart
    assert shift_distance(opposite, np.array([[0.0, 1], [0, 1]])) == pytest.approx(0.5)


def test_how_far_apart_images_are_by_hand():
    half = np.sqrt(3) / 2
    triangle = np.array(
        [[2.0, 0], [-0.5, half], [-1, -2 * half]]
    )  # 120 degrees between any two, whatever their lengths
    assert apart(triangle) == pytest.approx(1.5)
    # of six ordered pairs two have one direction, four are at right angles
    assert apart(np.array([[1.0, 0], [3, 0], [0, 2]])) == pytest.approx(4 / 6)
    assert apart(np.ones((5, 3))) == pytest.approx(0)


def test_the_distance_of_a_shift_is_above_one_where_images_are_nearer_than_that():
    before = np.array([[1.0, 0], [0.8, 0.6]])  # 0.2 apart
    moved = np.array([[0.0, 1], [0.6, 0.8]])  # by 1 and by 1 - 0.96
    assert shift_distance(before, moved) == pytest.approx((1 + 0.04) / 2 / 0.2)


def test_the_distance_of_a_shift_among_features_that_are_all_alike_is_one():
    assert shift_distance(np.ones((5, 3)), np.ones((5, 3))) == 1.0


@pytest.mark.parametrize("metric", [rankme, odcorr])
def test_nan_features_are_refused(metric):
    features = np.ones((10, 3))
    features[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 features of 30 are NaN"):
        metric(features)
