"""Where one arm's seeds scatter far more than the others', which the pooled variance supposes they do not: said, and done again by Welch.

The verdicts stay those of the pooled variance, which was declared before: a test that is chosen after looking holds no level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pathssl.report import words
from pathssl.report.comparison import LEVEL, Comparison, Reading, Row, p_text, trained_and_noisy
from pathssl.report.statistics import ALPHA, Estimate, Widest, family, welch, widest
from pathssl.report.study import Study


@dataclass(frozen=True)
class Unequal:
    """A metric in which `widest.arm` scatters more than chance would make; its p counts the study's metrics too.

    welch: by arm, its difference to the baseline without pooling; in the study's family adjusted by Holm among the same differences.
    """

    widest: Widest
    welch: dict[str, Estimate]
    sentence: str


def unequal_variances(study: Study, reading: Reading, comparisons: Sequence[Comparison]) -> dict[str, Unequal]:
    """By key, the metrics in which the trained arms' variances differ; of a study without such a difference, 95 of 100 have none."""
    trained, noisy = trained_and_noisy(reading)
    found = {one.key: widest({row.arm: _of(row) for row in one.rows if row.arm in trained}) for one in comparisons}
    tested = {key: one for key, one in found.items() if one is not None}
    named = {key: one for key, one in tested.items() if one.p * len(tested) <= ALPHA}
    without = {one.key: _without_pooling(one, noisy) for one in comparisons if one.key in named}
    places = [(one.key, row) for one in comparisons if one.key in study.family for row in one.rows if row.difference]
    adjusted = family([without[key][row.arm] if key in without else row.difference for key, row in places])
    for (key, row), difference in zip(places, adjusted, strict=True):
        if key in without:
            without[key][row.arm] = difference
    short = words.distinct_names(study.arms)
    return {
        one.key: Unequal(
            named[one.key],
            without[one.key],
            _scatter(one, named[one.key], len(tested), trained, short)
            + _verdicts(one, named[one.key].arm, without[one.key], short),
        )
        for one in comparisons
        if one.key in named
    }


def _of(row: Row) -> list[float]:
    return [value for _, value in row.values]


def _without_pooling(comparison: Comparison, noisy: set[str]) -> dict[str, Estimate]:
    (base,) = [_of(row) for row in comparison.rows if row.arm == comparison.baseline]
    return {
        row.arm: welch(_of(row), base, LEVEL, (row.arm in noisy, comparison.baseline in noisy))
        if row.difference.low is not None
        else row.difference
        for row in comparison.rows
        if row.difference
    }


def _scatter(comparison: Comparison, wide: Widest, metrics: int, trained: set[str], short: Mapping[str, str]) -> str:
    """Which arm, by how much, and whose intervals are wrong for it.

    With n seeds in each of k arms, a difference to the wide one has a variance of (s_wide^2 + s_rest^2) / n and is given 2 s^2 / n with
    s^2 = (s_wide^2 + (k - 1) s_rest^2) / k: too little of more than two arms, and right of two. Of two arms with unlike numbers of seeds
    s^2 is nearer to the variance of the one that has more, and the mean of the other one is the more uncertain.
    """
    among = f"{wide.arms} arms and {words.plural(metrics, 'metric')}" if metrics > 1 else f"{wide.arms} arms"
    p = words.probability(min(1.0, wide.p * metrics))
    said = (
        f"The seeds of {short[wide.arm]} scatter {words.number(wide.ratio, 1)} times as much as those of the other arms "
        f"(standard deviations; p {p} by Cochran's test among {among})"
    )
    rows = [row for row in comparison.rows if row.values]
    if len(rows) == 2 and comparison.baseline in trained:
        (own,) = [len(row.values) for row in rows if row.arm == wide.arm]
        (others,) = [len(row.values) for row in rows if row.arm != wide.arm]
        lean = "" if own == others else f", and that of their difference too {'short' if own < others else 'wide'}"
        return f"{said}: its interval is too short, that of the other arm too wide{lean}."
    if wide.arm == comparison.baseline:
        return f"{said}: its interval and those of all differences to it are too short, those of the other arms' means too wide."
    differs = any(row.arm == wide.arm and row.difference for row in comparison.rows)
    return f"{said}: its interval{' and that of its difference are' if differs else ' is'} too short, those of the others are too wide."


def _verdicts(comparison: Comparison, wide: str, without: Mapping[str, Estimate], short: Mapping[str, str]) -> str:
    """What Welch's test would say of the differences that have a verdict, or an interval outside of the family.

    One to the `wide` arm that is told apart by an interval too short is not to be believed; of others the intervals are too wide.
    """
    rows = [row for row in comparison.rows if row.difference and row.difference.low is not None]
    if not rows:
        return ""
    test, baseline = " Welch's test, which pools no variance,", short[comparison.baseline]
    open_ = [short[row.arm] for row in rows if without[row.arm].told_apart is None]
    cannot = f" It cannot be made of {', '.join(open_)}, where seeds are too few or agree exactly." if open_ else ""
    tested = [row for row in rows if without[row.arm].told_apart is not None]
    others = [row for row in tested if row.difference.told_apart != without[row.arm].told_apart]
    if others:
        said = "; ".join(
            short[row.arm] + _says(row, without[row.arm], wide in (row.arm, comparison.baseline)) for row in others
        )
        differences = words.plural(len(tested), "difference")
        return f"{test} says otherwise of {len(others)} of {differences} to {baseline}: {said}.{cannot}"
    if not tested:
        return f"{test} cannot be made here: seeds are too few, or agree exactly."
    told = any(row.difference.told_apart for row in tested)
    return f"{test} {'tells the same arms' if told else 'tells no arm'} from {baseline}{'' if told else ' either'}.{cannot}"


def _says(row: Row, welch: Estimate, wide: bool) -> str:
    doubt = ", so do not build on it" if row.difference.told_apart and wide else ""
    return f", {'told apart' if welch.told_apart else 'cannot be told apart'} ({p_text(welch)}){doubt}"
