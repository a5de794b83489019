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


def test_the_widest_arm_is_named_with_a_p_by_hand():
    # variances 16, 1, 1: F = 16 with 2 and 4 degrees of freedom, whose tail is (1 + 2 F / 4)^-2 = 1/81; times three arms
    arms = {"a": [1.0, 2.0, 3.0], "b": [9.0, 1.0, 5.0], "c": [4.0, 6.0, 5.0]}
    found = statistics.widest(arms)
    assert (found.arm, found.ratio, found.arms) == ("b", pytest.approx(4), 3)
    assert found.p == pytest.approx(3 / 81)
    # of two arms: twice the one-sided p of Fisher's F
    unlike = {"x": [0.1, 0.5, 0.7], "y": [0.2, 0.21, 0.25, 0.3]}
    ratio = np.var(unlike["x"], ddof=1) / np.var(unlike["y"], ddof=1)
    assert statistics.widest(unlike).p == pytest.approx(2 * stats.f.sf(ratio, 2, 3))
    # arms without noise of their own say nothing, and are not counted
    assert statistics.widest(arms | {"d": [7.0], "e": [0.7] * 3, "f": []}) == found


@pytest.mark.parametrize("arms", [{}, {"a": [1.0, 2.0]}, {"a": [1.0, 2.0], "b": [0.7] * 3}, {"a": [1.0], "b": [2.0]}])
def test_without_two_arms_that_have_noise_none_is_the_widest(arms):
    assert statistics.widest(arms) is None


@pytest.mark.parametrize(("arms", "seeds"), [(2, 2), (2, 3), (5, 3), (9, 3)])
def test_of_arms_that_are_alike_five_in_a_hundred_studies_have_one_that_seems_to_scatter_more(arms, seeds):
    studies = np.random.default_rng([arms, seeds]).normal(size=(3000, arms, seeds))
    share = np.mean([statistics.widest(dict(enumerate(study))).p <= 0.05 for study in studies])
    assert 0.038 <= share <= 0.062  # three standard errors


def test_welchs_interval_and_p_are_scipys():
    x, y = [0.1, 0.5, 0.7], [0.2, 0.21, 0.25, 0.3]
    ours, theirs = statistics.welch(x, y, 0.95), stats.ttest_ind(x, y, equal_var=False)
    assert ours.value == pytest.approx(np.mean(x) - np.mean(y)) and ours.n == 3
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.p == pytest.approx(theirs.pvalue)


# Given weights are no noise of seeds, however far apart their values lie; seeds that agree exactly show none.
@pytest.mark.parametrize(("y", "noisy"), [([0.3], False), ([0.2, 0.4], False), ([0.3] * 3, True)])
def test_welchs_test_against_what_does_not_vary_is_that_of_one_sample(y, noisy):
    x = [0.1, 0.5, 0.7]
    ours, theirs = statistics.welch(x, y, 0.95, (True, noisy)), stats.ttest_1samp(x, 0.3)
    assert (ours.low + 0.3, ours.high + 0.3) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.p == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize(("x", "y"), [([0.1, 0.5], [0.3]), ([0.7] * 3, [0.1] * 3)])
def test_welchs_test_of_one_seed_or_of_no_noise_at_all_gives_no_interval(x, y):
    found = statistics.welch(x, y, 0.95)
    assert (found.value, found.low, found.p) == (pytest.approx(np.mean(x) - np.mean(y)), None, None)
