"""Rank correlations of points in runs, against SciPy on the same points written out."""

import numpy as np
import pytest
from scipy import stats

from pathssl.report.ranks import together, weighted_rhos, within


def runs_of(rng, n, points=5, ties=False):
    """Runs with an effect of their own, so that points of one run resemble each other."""
    found = []
    for _ in range(n):
        own = rng.normal(size=2)
        x, y = own[0] + rng.normal(size=points), own[1] + rng.normal(size=points)
        found.append((x.round() if ties else x, y.round() if ties else y))
    return found


@pytest.mark.parametrize("ties", [False, True])
def test_a_drawn_point_counts_as_so_many_equal_points(ties):
    rng = np.random.default_rng(0)
    ((x, y),) = runs_of(rng, 1, points=30, ties=ties)
    weight_SN = rng.integers(0, 4, (20, 30)).astype(float)
    expected = [stats.spearmanr(np.repeat(x, w), np.repeat(y, w)).statistic for w in weight_SN.astype(int)]
    assert weighted_rhos(x, y, weight_SN) == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_is_that_of_a_loop_that_draws_whole_runs(ties):
    runs = runs_of(np.random.default_rng(1), 7, ties=ties)
    found = together(runs)
    assert found.value == pytest.approx(stats.spearmanr(*map(np.concatenate, zip(*runs, strict=True))).statistic)
    rhos = []
    for picked in np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), size=2000):
        drawn = [run for run, n in zip(runs, picked, strict=True) for _ in range(n)]
        rhos.append(stats.spearmanr(*map(np.concatenate, zip(*drawn, strict=True))).statistic)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(rhos, [0.025, 0.975])))


def test_drawing_whole_runs_is_wider_than_drawing_points_where_runs_differ():
    wider = []
    for seed in range(8):
        runs = runs_of(np.random.default_rng(seed), 12, points=20)
        points = [(x[i : i + 1], y[i : i + 1]) for x, y in runs for i in range(20)]
        by_runs, by_points = together(runs), together(points)
        assert by_runs.value == by_points.value
        wider.append((by_runs.high - by_runs.low) / (by_points.high - by_points.low))
    assert np.mean(wider) > 1.5


def test_within_runs_the_mean_of_each_runs_own_correlation_is_taken():
    """Within each run y falls with x; between runs it rises."""
    runs = [(np.arange(4.0) + 10 * k, 10 * k - np.arange(4.0)) for k in range(5)]
    assert within(runs).value == -1 and together(runs).value > 0.8
    flat = (np.ones(4), np.arange(4.0))
    assert within([*runs, flat]).n == 5 and within([flat]) is None and together([flat, flat]) is None
