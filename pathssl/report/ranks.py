"""Rank correlation of points that come in runs, with intervals by drawing whole runs again.

Checkpoints of one run resemble each other: to draw single points would make intervals too narrow (the cluster bootstrap, Davison and
Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). Spearman's rho is Pearson's correlation of ranks; a point that
was drawn w times is w equal points, and equal points share the mean of their ranks.

Axes: R runs, N points, S draws.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from pathssl.metrics.bootstrap import DRAWS, SEED, interval
from pathssl.report.comparison import LEVEL
from pathssl.report.statistics import Estimate

_AT_ONCE = 2**20  # weights of points in draws


def together(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Estimate | None:
    """Spearman's rho over all points of all runs, each run an x and a y of one length; None where one of the two does not vary."""
    x_N, y_N = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    run_N = np.repeat(np.arange(len(runs)), [len(x) for x, _ in runs])
    rho = _rho(x_N, y_N)
    if rho is None:
        return None
    picked_SR = _picked(len(runs))
    parts = np.array_split(picked_SR, max(1, picked_SR.shape[0] * len(x_N) // _AT_ONCE))
    return _estimate(rho, np.concatenate([weighted_rhos(x_N, y_N, part[:, run_N]) for part in parts]), len(runs))


def within(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Estimate | None:
    """The mean over runs of Spearman's rho inside each; `n` is the number of runs in which both vary, None where there is none."""
    found_R = np.array([rho for x, y in runs if (rho := _rho(x, y)) is not None])
    if not len(found_R):
        return None
    picked_SR = _picked(len(found_R))
    return _estimate(float(found_R.mean()), picked_SR @ found_R / len(found_R), len(found_R))


def _picked(runs: int) -> np.ndarray:
    """(S, R): how often each run was drawn."""
    draws_SR = np.random.default_rng(SEED).multinomial(runs, np.full(runs, 1 / runs), size=DRAWS)
    return draws_SR.astype(np.float64)


def _estimate(rho: float, rhos_S: np.ndarray, n: int) -> Estimate:
    return Estimate(rho, *interval(rhos_S, LEVEL), n)


def _rho(x: np.ndarray, y: np.ndarray) -> float | None:
    return float(stats.spearmanr(x, y).statistic) if np.ptp(x) > 0 and np.ptp(y) > 0 else None


def weighted_rhos(x_N: np.ndarray, y_N: np.ndarray, weight_SN: np.ndarray) -> np.ndarray:
    """(S,) Spearman's rho where point n stands weight_SN[s, n] times; NaN where x or y does not vary."""
    total_S1 = weight_SN.sum(axis=1, keepdims=True)
    a_SN, b_SN = (_ranks(values_N, weight_SN) - (total_S1 + 1) / 2 for values_N in (x_N, y_N))
    products = [
        (weight_SN * one_SN * other_SN).sum(axis=1) for one_SN, other_SN in ((a_SN, b_SN), (a_SN, a_SN), (b_SN, b_SN))
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        return products[0] / np.sqrt(products[1] * products[2])


def _ranks(values_N: np.ndarray, weight_SN: np.ndarray) -> np.ndarray:
    """(S, N): the mean rank, from 1, of each point's copies; of points that were not drawn it says nothing."""
    order = np.argsort(values_N, kind="stable")
    sorted_N = values_N[order]
    starts = np.flatnonzero(np.r_[True, sorted_N[1:] > sorted_N[:-1]])  # of runs of equal values
    tied_ST = np.add.reduceat(weight_SN[:, order], starts, axis=1)
    middle_ST = np.cumsum(tied_ST, axis=1) - (tied_ST - 1) / 2
    ranks_SN = np.empty_like(weight_SN)
    ranks_SN[:, order] = np.repeat(middle_ST, np.diff(np.r_[starts, len(values_N)]), axis=1)
    return ranks_SN
