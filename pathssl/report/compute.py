"""Arms at equal compute: the comparisons of the last checkpoint, made again at equal patches seen, device-hours and FLOPs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from pathssl.report import costs, words
from pathssl.report.comparison import Comparison, Reading, Row, compare_all, verdicts
from pathssl.report.exports import csv_text
from pathssl.report.sheets import Sheet
from pathssl.report.study import Run, Study, leaked, mark, named

_TITLES = {costs.PATCHES: "Equal patches seen", costs.HOURS: "Equal device-hours", costs.FLOPS: "Equal FLOPs"}
_HOW = (
    "A run's value at a budget is on the straight line between its own two checkpoints around it, and on none beyond its last: rough where "
    "checkpoints are few, and less noisy than a measured value, so that p is too small where some arms are interpolated and others are "
    "not. Each budget is the largest that all compared runs reached."
)
_SCHEDULE = (
    "What a run had at a part of its budget is not what one planned for that part would have: a learning rate that falls had not fallen. "
    "This disfavours the arms for which more is cut off."
)
_LOOKS = (
    "p is corrected within each column. To look at several columns is to look several times: the verdict of this study is the one in its "
    "first sentence."
)


@dataclass(frozen=True)
class Budget:
    """One axis. `text`: how much in words; `why_not`: why there is none, else None. `comparisons` are those of the metrics that get
    verdicts; `agreement` says how its verdicts stand to the others.
    """

    kind: str
    title: str
    amount: float | None
    text: str
    why_not: str | None
    comparisons: list[Comparison]
    agreement: str


@dataclass(frozen=True)
class EqualCompute:
    """`last`: the comparisons as the study reads them, called `reading`. `notes`: what to know of the numbers."""

    reading: str
    last: list[Comparison]
    budgets: list[Budget]
    notes: list[str]

    def cells(self, key: str) -> list[tuple[str, list[tuple[Row, str] | None]]]:
        """For each arm of a metric's table but the baseline: its row and verdict in each column, None where it has no difference."""
        columns = [self.last, *(one.comparisons for one in self.budgets)]
        of_key = [next((one for one in column if one.key == key), None) for column in columns]
        arms = [row.arm for row in of_key[0].rows if row.difference]
        return [(arm, [_cell(one, arm) for one in of_key]) for arm in arms]


def equal_compute(study: Study, reading: Reading, comparisons: list[Comparison]) -> EqualCompute | None:
    """Of the metrics that get verdicts and the primary one; None where no trained arm is compared with another."""
    wanted = {study.primary, *study.family}
    last = [one for one in comparisons if one.key in wanted and any(row.inverse_n for row in one.rows)]
    runs = [run for run in reading.runs if not run.untrained]
    if not last or not runs:
        return None
    where = "Common checkpoint" if reading.provisional else "Last checkpoint"
    budgets = [_budget(study, reading, kind, last, where.lower()) for kind in costs.KINDS]
    notes = [_HOW, _SCHEDULE, _LOOKS]
    if len(runs) < len(reading.runs):
        notes.append("Arms that are not trained cost no training: they stand at their step 0 in every column.")
    notes += [note for one in budgets if one.why_not is None for note in costs.remarks(runs, one.kind)]
    return EqualCompute(where, last, budgets, list(dict.fromkeys(notes)))


def _budget(study: Study, reading: Reading, kind: str, last: list[Comparison], where: str) -> Budget:
    runs = [run for run in reading.runs if not run.untrained]
    why_not = costs.why_unknown(runs, kind) or costs.why_no_budget(runs, kind, words.distinct_names(study.arms))
    if why_not:
        return Budget(kind, _TITLES[kind], None, "", why_not, [], f"{_TITLES[kind]}: not to be had, for {why_not}.")
    totals = [float(np.nanmax(costs.spent(run, kind, np.asarray(run.probed)), initial=0.0)) for run in runs]
    amount = min(totals)
    keys = {one.key for one in last}
    at_budget = partial(_value, kind=kind, budget=amount)
    found = [one for one in compare_all(study, reading, at_budget) if one.key in keys]
    unit = costs.unit(runs, kind)
    text = f"{costs.written(amount, kind)} {unit}"
    most = costs.written(max(totals), kind)
    spread = "as every run had" if amount == max(totals) else f"of up to {most} that a run had"
    agreement = f"{_TITLES[kind]} ({text}, {spread}): {_agreement(study, last, found, where)}"
    return Budget(kind, _TITLES[kind], amount, text, None, found, agreement)


def _value(run: Run, key: str, patches: float, kind: str, budget: float) -> float | None:
    """The metric where the run had cost so much; None where its checkpoints do not reach around that. `patches` is not where."""
    del patches
    series = run.series.get(key)
    if series is None or run.untrained:
        return series.at(0) if series else None
    cost = costs.spent(run, kind, series.patches)
    known = ~np.isnan(cost)
    if not known.any() or not cost[known][0] <= budget <= cost[known][-1]:
        return None
    return float(np.interp(budget, cost[known], series.values[known]))


def _agreement(study: Study, last: list[Comparison], found: list[Comparison], where: str) -> str:
    """Whether all verdicts are those of the checkpoint that the study is read at, and where they are not."""
    names = words.distinct_names(study.arms)
    before = {(one.key, arm): outcome for one in last for arm, outcome in outcomes(one).items()}
    here = {(one.key, arm): outcome for one in found for arm, outcome in outcomes(one).items()}
    unlike: dict[str, list[str]] = {}
    for (key, arm), there in before.items():
        if here.get((key, arm), there) != there:
            said = f"{names[arm]} {words.VERDICTS[here[key, arm]]} (there: {words.VERDICTS[there]})"
            unlike.setdefault(words.full_title(key), []).append(said)
    missing = len(before) - len(here)
    lacking = f" {words.plural(missing, 'difference')} cannot be had there." if missing else ""
    if unlike:
        count = f"{sum(map(len, unlike.values()))} of {words.plural(len(here), 'verdict')} not as at the {where}"
        found_in = [f"In {measure}: {'; '.join(of)}." for measure, of in unlike.items()]
        return f"{count}. {' '.join(found_in)}{lacking}"
    if not here:
        return "no difference can be had there."
    every = "the verdict is that" if len(here) == 1 else f"all {len(here)} verdicts are those"
    return f"{every} of the {where}.{lacking}"


def outcomes(comparison: Comparison) -> dict[str, str]:
    """{arm: its verdict against the baseline, as comparison.Verdict has it}."""
    return {one.arm: one.outcome for one in verdicts(comparison)}


def _cell(comparison: Comparison | None, arm: str) -> tuple[Row, str] | None:
    row = next((row for row in comparison.rows if row.arm == arm), None) if comparison else None
    return (row, outcomes(comparison)[arm]) if row and row.difference else None


def _columns(found: EqualCompute) -> Iterator[tuple[str, str, Budget | None, list[Comparison]]]:
    yield "last", found.reading, None, found.last
    for one in found.budgets:
        yield one.kind, one.title, one, one.comparisons


def compute_csv(study: Study, found: EqualCompute | None) -> str:
    """One line for each column of the page, metric and arm, in full precision."""
    lines = []
    for kind, _, budget, comparisons in _columns(found) if found else ():
        for one in comparisons:
            for row in one.rows:
                last, change = row.last, row.difference
                lines.append(
                    {"at": kind, "budget": budget.amount if budget else None, "metric": one.key, "arm": row.arm}
                    | {"seeds": len(row.values), "value": last and last.value}
                    | {"value_low": last and last.low, "value_high": last and last.high, "baseline": one.baseline}
                    | {"difference": change and change.value}
                    | {"difference_low": change and change.low, "difference_high": change and change.high}
                    | {"p": change and change.p, "p_holm": change and change.adjusted}
                    | {"outcome": outcomes(one).get(row.arm), "tested_on_training": leaked(study, one.key, row.arm)}
                )
    return csv_text(lines)


def compute_sheets(study: Study, found: EqualCompute | None) -> list[Sheet]:
    """A table for each metric; below the last one, what the columns say together."""
    sheets, names = [], words.distinct_names(study.arms)
    for one in found.last if found else ():
        head = [f"arm minus {names[one.baseline]}", found.reading, *(budget.title for budget in found.budgets)]
        rows = [
            [
                named(study, one.key, arm),
                *(_text(cell, one.digits) for cell in of),
            ]
            for arm, of in found.cells(one.key)
        ]
        marked = mark(study, one.key)
        title = f"{words.full_title(one.key)}{f' — {marked}' if marked else ''}"
        said = [*(budget.agreement for budget in found.budgets), *found.notes] if one is found.last[-1] else []
        sheets.append(Sheet(title, head, rows, 1, said))
    return sheets


def _text(cell: tuple[Row, str] | None, digits: int) -> str:
    return f"{words.change(cell[0].difference, digits)}: {words.VERDICTS[cell[1]]}" if cell else "—"
