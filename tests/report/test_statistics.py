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
    assert ours.p == pytest.approx(stats.ttest_ind(x, y, equal_var=True).pvalue)


def test_a_family_is_told_from_zero_by_holm():
    def with_p(p):
        return statistics.Estimate(0.1, 0.01, 0.19, 3, p=p)

    # By hand: ascending 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, and 0.04 that may not fall below 0.06.
    found = statistics.family(
        [with_p(0.04), with_p(0.01), with_p(0.03), with_p(0.005), statistics.Estimate(0.1, None, None, 1)]
    )
    assert [one.adjusted for one in found[:4]] == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert [one.told_apart for one in found] == [False, True, False, True, None]
    assert [one.family for one in found] == [4, 4, 4, 4, 1]
    (alone,) = statistics.family([with_p(0.04)])
    assert alone.adjusted == 0.04 and alone.told_apart
    assert statistics.family([with_p(0.6), with_p(0.7)])[0].adjusted == 1.0


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


@pytest.mark.parametrize("family", [44, 300, 3000])
def test_what_a_large_family_with_one_degree_of_freedom_is_able_to_see_is_a_number_however_large(family):
    # |z + effect / sqrt(1.5)| > t |y| of two normal numbers: with t in the hundreds z is nothing, and |y| is below 1.28155 in 80 of 100
    t = stats.t.ppf(1 - 0.05 / family / 2, 1)
    assert statistics.detectable(1.5, 1, 0.05 / family) == pytest.approx(1.28155 * t * 1.5**0.5, rel=1e-4)
