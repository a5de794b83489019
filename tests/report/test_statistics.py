import numpy as np
import pytest
from scipy import stats

from pathssl.report import statistics


def test_intervals_agree_with_a_computation_by_hand():
    # arm a: 1, 3 (mean 2, squares 2); arm b: 4, 6, 8 (mean 6, squares 8); s^2 = 10 / 3, df = 3, t(0.975, 3) = 3.182446
    arms = {"a": [1.0, 3.0], "b": [4.0, 6.0, 8.0]}
    spread = statistics.pooled_spread(arms)
    assert spread.df == 3
    assert spread.sd == pytest.approx((10 / 3) ** 0.5)
    a = statistics.mean(arms["a"], spread, 0.95)
    assert (a.value, a.n) == (2.0, 2)
    assert a.high - a.value == pytest.approx(3.182446 * (10 / 3) ** 0.5 / 2**0.5, rel=1e-6)
    d = statistics.difference(arms["b"], arms["a"], spread, 0.95)
    assert d.value == 4.0
    assert d.value - d.low == pytest.approx(3.182446 * (10 / 3) ** 0.5 * (1 / 2 + 1 / 3) ** 0.5, rel=1e-6)
    assert d.told_apart is (abs(4.0) > d.value - d.low)


def test_with_two_arms_the_difference_is_the_classical_two_sample_t_interval():
    random = np.random.default_rng(1)
    x, y = random.normal(size=4), random.normal(size=3)
    ours = statistics.difference(x, y, statistics.pooled_spread({"x": x, "y": y}), 0.9)
    theirs = stats.ttest_ind(x, y, equal_var=True).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_an_arm_of_one_seed_borrows_the_spread_of_the_others():
    arms = {"a": [0.5], "b": [0.4, 0.6]}
    spread = statistics.pooled_spread(arms)
    assert spread.df == 1
    assert statistics.mean(arms["a"], spread, 0.95).low is not None


@pytest.mark.parametrize("arms", [{"a": [0.5], "b": [0.6]}, {"a": [0.7] * 3, "b": [0.1] * 3}])
def test_without_any_spread_between_seeds_there_is_no_interval_and_no_verdict(arms):
    spread = statistics.pooled_spread(arms)
    estimate = statistics.difference(arms["a"], arms["b"], spread, 0.95)
    assert (estimate.low, estimate.high, estimate.told_apart) == (None, None, None)


def test_a_difference_whose_interval_holds_zero_cannot_be_told_apart():
    arms = {"a": [0.70, 0.80], "b": [0.71, 0.83]}
    spread = statistics.pooled_spread(arms)
    assert statistics.difference(arms["b"], arms["a"], spread, 0.95).told_apart is False
    assert statistics.difference([1.5, 1.6], arms["a"], spread, 0.95).told_apart is True


@pytest.mark.parametrize(("n_arms", "n_seeds"), [(2, 3), (5, 2)])
@pytest.mark.slow
def test_intervals_cover_the_truth_in_95_of_100_studies(n_arms, n_seeds):
    studies = 2000
    values = np.random.default_rng(20).normal(0.7, 0.02, (studies, n_arms, n_seeds))
    means = differences = 0
    for study in values:
        spread = statistics.pooled_spread(dict(enumerate(study)))
        estimate = statistics.mean(study[0], spread, 0.95)
        means += estimate.low <= 0.7 <= estimate.high
        differences += not statistics.difference(study[1], study[0], spread, 0.95).told_apart
    assert 0.935 <= means / studies <= 0.965
    assert 0.935 <= differences / studies <= 0.965
