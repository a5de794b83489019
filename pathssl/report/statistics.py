"""Means, differences and their intervals over seeds.

Every arm of a study has its own mean; the variance between seeds is taken to be the same in all arms and pooled over
them, because two or three seeds say almost nothing about a variance. With n_a values x_ai in arm a:

    s^2 = sum_a sum_i (x_ai - mean_a)^2 / df,   df = sum_a (n_a - 1)
    mean_a            +- t(df) s sqrt(1 / n_a)
    mean_a - mean_b   +- t(df) s sqrt(1 / n_a + 1 / n_b)

This is the one-way analysis of variance with Student's t (for example Montgomery, "Design and Analysis of Experiments",
chapter 3, with Fisher's least significant difference). A bootstrap over 3 to 5 seeds would cover 71 to 83 %, not 95 %.
Several differences that are asked for together, a family, are told from zero by Holm's step-down method (Scandinavian Journal of
Statistics 6, 1979), which holds the chance of any false finding among them below ALPHA. Intervals are of each difference by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special, stats

POWER, ALPHA = 0.8, 0.05  # of the two-sided tests by which differences are planned, and found
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class Spread:
    """The variance between seeds, pooled over the arms of a study."""

    sd: float
    df: float

    @property
    def known(self) -> bool:
        """False where no arm has two values, or each arm's values are all equal: then nothing measures the noise."""
        return self.df > 0 and self.sd > 0


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, with its interval; `low` and `high` are None where the spread is not known.

    p: two-sided, of a difference that is zero in truth; adjusted: the same among `family` differences, by Holm; None: of no family.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None
    adjusted: float | None = None
    family: int = 1

    @property
    def told_apart(self) -> bool | None:
        """Whether it is told from zero: in a family by the adjusted p, else by the interval; None without an interval."""
        if self.low is None:
            return None
        return not self.low <= 0 <= self.high if self.adjusted is None else self.adjusted <= ALPHA


NOTHING_KNOWN = Spread(0.0, 0)


def pooled_spread(arms: Mapping[str, Sequence[float]]) -> Spread:
    """The pooled standard deviation of one value for each seed, and its degrees of freedom."""
    values = [np.asarray(x, float) for x in arms.values() if len(x)]
    df = sum(len(x) - 1 for x in values)
    squares = sum(map(_squares, values))
    return Spread(sd=(squares / df) ** 0.5 if df else 0.0, df=df)


def _squares(x: np.ndarray) -> float:
    """Sum of squares about the mean; of values that are all equal exactly 0, which their rounded mean would not give."""
    return float(((x - x.mean()) ** 2).sum()) if np.ptp(x) > 0 else 0.0


@dataclass(frozen=True)
class Widest:
    """The arm with the largest variance beside the others': `ratio` of its standard deviation to theirs, pooled.

    p: of so large a ratio in any of the `arms` that were compared, were all variances equal and the noise normal.
    """

    arm: str
    ratio: float
    p: float
    arms: int


def widest(arms: Mapping[str, Sequence[float]]) -> Widest | None:
    """Cochran's test of the largest variance: whether one arm's seeds scatter more than the others' by more than chance would make.

    Each arm's variance over the pooled one of the others is an F; the smallest p counts times the number of arms (Cochran, Annals of
    Eugenics 11, 1941; for unequal numbers of seeds 't Lam, Analytica Chimica Acta 659, 2010). With two or three seeds it holds its level,
    where Levene's test does not and Brown-Forsythe's never finds anything, and it sees one wide arm more often than Bartlett's.
    Arms of one seed, or whose seeds agree exactly, are left out; None where fewer than two are left.
    """
    squares = {arm: _squares(np.asarray(x, float)) for arm, x in arms.items() if len(x) > 1}
    noisy = {arm: (of, len(arms[arm]) - 1) for arm, of in squares.items() if of > 0}
    found = []
    for arm, (of, df) in noisy.items() if len(noisy) > 1 else ():
        rest, rest_df = (sum(parts) for parts in zip(*(noisy[other] for other in noisy if other != arm), strict=True))
        f = (of / df) / (rest / rest_df)
        found.append(Widest(arm, f**0.5, min(1.0, len(noisy) * float(special.fdtrc(df, rest_df, f))), len(noisy)))
    return min(found, key=lambda one: one.p, default=None)


def mean(x: Sequence[float], spread: Spread, level: float) -> Estimate:
    """The mean over seeds of one arm, with its interval at confidence `level`."""
    return _estimate(float(np.mean(x)), 1 / len(x), len(x), spread, level)


def difference(
    x: Sequence[float], y: Sequence[float], spread: Spread, level: float, inverse_n: float | None = None
) -> Estimate:
    """mean(x) - mean(y), with its interval at confidence `level`; n is the smaller number of seeds.

    inverse_n: 1 / n_x + 1 / n_y, without the term of an arm that has no noise between seeds (None: both have it); 0: neither has,
    and there is no interval.
    """
    value, inverse_n = float(np.mean(x) - np.mean(y)), 1 / len(x) + 1 / len(y) if inverse_n is None else inverse_n
    spread = spread if inverse_n else NOTHING_KNOWN
    found = _estimate(value, inverse_n, min(len(x), len(y)), spread, level)
    if not spread.known:
        return found
    return replace(found, p=float(2 * special.stdtr(spread.df, -abs(value) / (spread.sd * inverse_n**0.5))))


def welch(x: Sequence[float], y: Sequence[float], level: float, noisy: tuple[bool, bool] = (True, True)) -> Estimate:
    """mean(x) - mean(y), each with its own variance (Welch, Biometrika 34, 1947); no interval where one seed has to show the noise.

    noisy: whether the values of x, and of y, vary with the seed; weights that are given and not trained do not.
    """
    of = [np.asarray(one, float) for one, varies in zip((x, y), noisy, strict=True) if varies]
    known = all(len(one) > 1 for one in of)
    squared_errors = [_squares(one) / (len(one) - 1) / len(one) for one in of] if known else []
    total = sum(squared_errors)
    if not total:
        return difference(x, y, NOTHING_KNOWN, level)
    df = total**2 / sum(error**2 / (len(one) - 1) for error, one in zip(squared_errors, of, strict=True))
    return difference(x, y, Spread(total**0.5, df), level, inverse_n=1)


def family(differences: Sequence[Estimate]) -> list[Estimate]:
    """The same, asked for together: their p adjusted by Holm. Those without a p (no interval) stay as they are, and do not count."""
    tested = np.array([one.p for one in differences if one.p is not None])
    order = np.argsort(tested)
    adjusted = np.empty(len(tested))
    adjusted[order] = np.maximum.accumulate(tested[order] * np.arange(len(tested), 0, -1)).clip(max=1)
    found = iter(adjusted.tolist())
    return [one if one.p is None else replace(one, adjusted=next(found), family=len(tested)) for one in differences]


def _estimate(value: float, inverse_n: float, n: int, spread: Spread, level: float) -> Estimate:
    if not spread.known:
        return Estimate(value, None, None, n)
    half = float(special.stdtrit(spread.df, (1 + level) / 2)) * spread.sd * inverse_n**0.5
    return Estimate(value, value - half, value + half, n)


def sd_interval(spread: Spread, level: float) -> tuple[float, float]:
    """Bounds of the standard deviation itself, from chi-square: with few degrees of freedom it is hardly known."""
    low, high = stats.chi2.ppf([(1 + level) / 2, (1 - level) / 2], spread.df)
    return spread.sd * (spread.df / low) ** 0.5, spread.sd * (spread.df / high) ** 0.5


def power_of(effect: float, inverse_n: float, df: int, alpha: float = ALPHA) -> float:
    """How often Student's two-sided t test at `alpha` finds a difference of `effect` standard deviations between two arms.

    inverse_n: 1 / n_a + 1 / n_b, of their seeds; df: degrees of freedom of the pooled variance. From the noncentral t distribution with
    noncentrality effect / sqrt(inverse_n) (Cohen, "Statistical power analysis", 1988, chapter 2).
    """
    noncentrality = effect / inverse_n**0.5
    critical = stats.t.ppf(1 - alpha / 2, df)
    if noncentrality > 10 * critical:  # it is found always, and SciPy's series end in NaN
        return 1.0
    return float(stats.ncf.sf(critical**2, 1, df, noncentrality**2))  # of t squared: both tails at once


def detectable(inverse_n: float, df: int, alpha: float = ALPHA) -> float:
    """The difference, in standard deviations between seeds, that is found with POWER; see `power_of`.

    Of a family of m differences, alpha / m is the level at which Holm's method finds the first one, however the others are.
    """
    high = 1.0
    while power_of(high, inverse_n, df, alpha) < POWER:  # with one degree of freedom and a large family, thousands
        high *= 2
    return float(optimize.brentq(lambda effect: power_of(effect, inverse_n, df, alpha) - POWER, 1e-6, high))


def two_arms(seeds: int) -> tuple[float, int]:
    """inverse_n and df of a study of two arms of `seeds` each."""
    return 2 / seeds, 2 * (seeds - 1)


def seeds_needed(effect: float) -> int | None:
    """How many seeds in each of two arms show a difference of `effect` standard deviations with POWER; None above a thousand."""
    low, high = 2, _MOST_SEEDS
    if effect <= 0 or power_of(effect, *two_arms(high)) < POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(effect, *two_arms(middle)) >= POWER else (middle + 1, high)
    return low
