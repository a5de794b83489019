"""The arms of a study side by side: last value, step 0, gain, difference to the baseline, and the verdict in words."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pathssl.report import words
from pathssl.report.statistics import (
    ALPHA,
    NOTHING_KNOWN,
    POWER,
    Estimate,
    Spread,
    detectable,
    difference,
    mean,
    pooled_spread,
)
from pathssl.report.statistics import family as together
from pathssl.report.study import Run, Study, initialised, mark

LEVEL = 0.95
ValueOf = Callable[[Run, str, float], float | None]
UNTRAINED = "nothing is trained, so seeds say nothing"


@dataclass(frozen=True)
class Reading:
    """Which runs are compared and where: `patches` seen at the checkpoint of each run that is read."""

    runs: list[Run]
    patches: list[float]
    provisional: bool
    sentence: str


@dataclass(frozen=True)
class Row:
    """One arm in one metric; None where it was not measured. `values` are (seed, last value).

    inverse_n: of its difference, see `compare`; 0 where there is none, or nothing is trained in either arm.
    """

    arm: str
    values: list[tuple[int, float]]
    last: Estimate | None
    step0: float | None
    gain: Estimate | None
    difference: Estimate | None
    inverse_n: float


@dataclass(frozen=True)
class Comparison:
    """All arms in one metric. `trained`: whether any of them is."""

    key: str
    baseline: str
    rows: list[Row]
    spread: Spread
    gains: list[float]
    trained: bool

    @property
    def digits(self) -> int:
        """Decimals for all numbers of this metric."""
        return words.decimals(abs(value) for row in self.rows for _, value in row.values)


@dataclass(frozen=True)
class Verdict:
    """One sentence of the answer. `outcome` is higher, lower, same (cannot be told apart) or open (no interval)."""

    key: str
    arm: str
    baseline: str
    difference: Estimate
    outcome: str
    ending: str
    sentence: str


def choose_reading(study: Study) -> Reading:
    """Finished runs at their last checkpoint; while none is finished, all at the last point that all have reached."""
    probed = [(run, run.probed) for run in study.runs]
    probed = [(run, points) for run, points in probed if points]
    finished = [(run, points) for run, points in probed if run.state == "finished"]
    trained = [(run, points) for run, points in probed if not run.untrained]
    if finished and (not trained or any(run.state == "finished" for run, _ in trained)):
        runs, patches = [run for run, _ in finished], [points[-1] for _, points in finished]
        seen = [points[-1] for run, points in finished if not run.untrained] or patches
        low, high = words.count(min(seen)), words.count(max(seen))
        where = f"after {high} patches" if low == high else f"after {low} to {high} patches"
        where += ", arms that are not trained at step 0" if len(seen) < len(runs) else ""
        rest = len(study.runs) - len(runs)
        left_out = f"; {words.plural(rest, 'run')} that did not finish {'is' if rest == 1 else 'are'} left out"
        return Reading(runs, patches, False, f"Read at the last checkpoint, {where}{left_out if rest else ''}.")
    if not probed:
        return Reading([], [], True, "No checkpoint has been probed yet.")
    common = min(points[-1] for _, points in trained or probed)
    runs, patches = [run for run, _ in probed], [max(x for x in points if x <= common) for _, points in probed]
    kind = "run that trains" if len(trained) < len(probed) else "run"
    sentence = (
        f"Provisional: no {kind} has finished. Read after {words.count(common)} patches, which all probed runs reached."
    )
    return Reading(runs, patches, True, sentence)


def measured(run: Run, key: str, patches: float) -> float | None:
    """What the run measured exactly there."""
    series = run.series.get(key)
    return series.at(patches) if series else None


def compare_all(study: Study, reading: Reading, value_of: ValueOf = measured) -> list[Comparison]:
    """The arms in every metric of the study; the differences of its family are told from zero together."""
    compared = [compare(study, key, reading, value_of) for key in study.metrics]
    mine = [one for one in compared if one.key in study.family]
    found = iter(together([row.difference for one in mine for row in one.rows if row.difference]))
    corrected = {
        one.key: replace(
            one, rows=[replace(row, difference=next(found)) if row.difference else row for row in one.rows]
        )
        for one in mine
    }
    return [corrected.get(one.key, one) for one in compared]


def compare(study: Study, key: str, reading: Reading, value_of: ValueOf = measured) -> Comparison:
    """The arms in metric `key`, each difference by itself, with the variance between seeds pooled over the arms that are trained.

    value_of(run, key, patches): a run's last value, where the reading reads it; None leaves the run out.

    An arm that begins with given weights and is not trained is one network, whatever the seed: its value has no noise, and its
    difference to a trained arm of n seeds has only that arm's (inverse_n = 1 / n). Random weights are others with each seed, and count
    as a trained arm's seeds do. Between two arms that are not trained there is no interval, no p and no verdict: the spread of trained
    ones is not theirs.
    """
    values: dict[str, dict[int, float]] = {arm: {} for arm in study.arms}
    nulls: dict[str, dict[int, float]] = {arm: {} for arm in study.arms}
    for run, patches in zip(reading.runs, reading.patches, strict=True):
        last = value_of(run, key, patches)
        if last is not None:
            values[run.arm][run.seed] = last
            null = measured(run, key, 0)
            if null is not None:
                nulls[run.arm][run.seed] = null
    trained, noisy = trained_and_noisy(reading)
    gains = {
        arm: [values[arm][seed] - null for seed, null in nulls[arm].items()] if arm in trained else [] for arm in values
    }
    # What was not trained does not vary as training does, or not at all: it must not make the noise look small.
    spread = pooled_spread({arm: list(values[arm].values()) for arm in trained})
    gain_spread = pooled_spread(gains)
    base = list(values[study.baseline].values())
    rows = []
    for arm in study.arms:
        x = list(values[arm].values())
        compared = x and base and arm != study.baseline
        pair = ((arm, x), (study.baseline, base)) if compared and trained & {arm, study.baseline} else ()
        inverse_n = sum(1 / len(of) for one, of in pair if one in noisy)
        rows.append(
            Row(
                arm=arm,
                values=list(values[arm].items()),
                last=mean(x, spread if arm in trained else NOTHING_KNOWN, LEVEL) if x else None,
                step0=float(np.mean(list(nulls[arm].values()))) if nulls[arm] else None,
                gain=mean(gains[arm], gain_spread, LEVEL) if gains[arm] else None,
                difference=difference(x, base, spread, LEVEL, inverse_n) if compared else None,
                inverse_n=inverse_n,
            )
        )
    gained = [gain for x in gains.values() for gain in x]
    return Comparison(key, study.baseline, rows, spread, gained, bool(trained))


def trained_and_noisy(reading: Reading) -> tuple[set[str], set[str]]:
    """The arms that are trained, and those whose values vary with the seed: trained, or begun with random weights."""
    trained = {run.arm for run in reading.runs if not run.untrained}
    return trained, trained | {run.arm for run in reading.runs if not initialised(run.config)}


def verdicts(comparison: Comparison) -> list[Verdict]:
    """A sentence for each arm against the baseline."""
    return [_verdict(comparison, row) for row in comparison.rows if row.difference is not None]


def _verdict(comparison: Comparison, row: Row) -> Verdict:
    found, digits = row.difference, comparison.digits
    names = words.distinct_names([one.arm for one in comparison.rows])
    if found.told_apart is None:
        outcome, ending = "open", f"{why_no_interval(comparison, row)}, so no verdict"
    elif found.told_apart:
        outcome = "higher" if found.value > 0 else "lower"
        ending = f"{names[row.arm]} is {outcome}"
    elif found.family > 1 and not found.low <= 0 <= found.high:
        outcome, ending = "same", f"cannot be told apart among {found.family} differences"
    else:
        outcome, ending = "same", "cannot be told apart"
    basis = f" ({basis_of(comparison)}; {p_text(found)})" if found.low is not None else ""
    numbers = words.change(found, digits)
    sentence = f"{names[row.arm]} − {names[comparison.baseline]}: {numbers}{basis}: {ending}"
    return Verdict(comparison.key, row.arm, comparison.baseline, found, outcome, ending, sentence)


def headline(study: Study, answers: list[Verdict]) -> str | None:
    """What the primary metric says, in one sentence; None where there is nothing to compare."""
    mine = [answer for answer in answers if answer.key == study.primary]
    sentence = _headline(study, mine) if mine else None
    marked = mark(study, study.primary)
    return f"{sentence[:-1]}, {marked}." if sentence and marked else sentence


def _headline(study: Study, answers: list[Verdict]) -> str:
    names = words.distinct_names(study.arms)
    measure, baseline = words.name(study.primary.rsplit("/", 1)[-1]), names[study.baseline]
    if all(answer.outcome == "open" for answer in answers):
        return f"No verdict yet on {measure}: {answers[0].ending.removesuffix(', so no verdict')}."
    answers = [answer for answer in answers if answer.outcome != "open"]
    told = [answer for answer in answers if answer.outcome in ("higher", "lower")]
    if len(answers) == 1 and told:
        return f"{names[answers[0].arm]} gives {answers[0].outcome} {measure} than {baseline}."
    if len(answers) == 1:
        return f"{names[answers[0].arm]} and {baseline} cannot be told apart in {measure}."
    if not told:
        return f"None of {len(answers)} arms can be told apart from {baseline} in {measure}."
    if len(told) <= 2:
        found = [f"{names[answer.arm]} ({answer.outcome})" for answer in told]
    else:
        outcomes = [answer.outcome for answer in told]
        found = [f"{outcomes.count(word)} {word}" for word in ("higher", "lower") if word in outcomes]
    return f"{len(told)} of {len(answers)} arms can be told apart from {baseline} in {measure}: {', '.join(found)}."


def p_text(difference: Estimate) -> str:
    """Its p, and by Holm where it is one of several, in words."""
    if difference.family == 1:
        return f"p {words.probability(difference.p)}"
    return f"p {words.probability(difference.adjusted)} by Holm among {difference.family} differences"


def basis_of(comparison: Comparison) -> str:
    """Where the intervals of a metric come from, such as "95 %, Student t over 2 seeds, pooled"."""
    counts = sorted({len(row.values) for row in comparison.rows if row.values})
    seeds = words.plural(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return f"{100 * LEVEL:.0f} %, Student t over {seeds}, pooled"


def reach(comparison: Comparison) -> str | None:
    """How large a difference this study is able to see, in words; None without intervals."""
    rows = [row for row in comparison.rows if row.difference and row.difference.low is not None]
    if not rows:
        return None
    digits, spread = comparison.digits, comparison.spread
    widest = max(row.difference.high - row.difference.value for row in rows)
    least = max(minimum_detectable(comparison, row) for row in rows)
    among = f" (by Holm among {rows[0].difference.family})" if rows[0].difference.family > 1 else ""
    return (
        f"The variance is measured with {words.plural(spread.df, 'degree')} of freedom. The interval of a "
        f"difference in {words.full_title(comparison.key)} is ± {words.number(widest, digits)}, which is "
        f"{widest / spread.sd:.1f} standard deviations between seeds. A true difference of {words.number(least, digits)} or more would be "
        f"found{among} in {100 * POWER:.0f} of 100 such studies; a smaller one is likely to stay unseen. More seeds are the remedy."
    )


def minimum_detectable(comparison: Comparison, row: Row) -> float:
    """The difference between this arm and the baseline that such a study finds with POWER, were its spread the true one."""
    alpha = ALPHA / (row.difference.family if row.difference else 1)
    return detectable(row.inverse_n, comparison.spread.df, alpha) * comparison.spread.sd


def effect_size(comparison: Comparison, row: Row) -> float | None:
    """The difference to the baseline in pooled standard deviations between seeds (Cohen's d); None where these are not known.

    It is too large on average: by a factor 1.8 with 2 degrees of freedom, 1.08 with 10 (Hedges, Journal of Educational Statistics 6, 1981).
    """
    known = row.difference is not None and row.difference.low is not None
    return row.difference.value / comparison.spread.sd if known else None


def why_no_interval(comparison: Comparison, row: Row | None = None) -> str:
    """The reason in words, of a whole metric or of the difference of a `row`."""
    if not comparison.trained or (row is not None and not row.inverse_n):
        return UNTRAINED
    if comparison.spread.df == 0:
        return "one seed in each arm gives no interval"
    return "the seeds agree exactly, which gives no interval"
