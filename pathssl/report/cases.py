"""Differences between arms over cases, by a paired bootstrap on the stored predictions, beside the same differences over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pathssl.report import charts, words
from pathssl.report.comparison import Comparison
from pathssl.report.exports import csv_text
from pathssl.report.over_cases import LEAST_CASES, OverCases, estimate, too_few
from pathssl.report.scored import Scored
from pathssl.report.sheets import Sheet
from pathssl.report.statistics import Estimate
from pathssl.report.study import Study, leaked, mark, named
from pathssl.report.svg import axis

QUESTIONS = (
    "Over seeds: would the difference stay if the arms were trained again with other seeds, and tested on the same cases? (Student's t; "
    "told apart as in the answer above, and of a metric that it does not name by the interval alone.)",
    "Over cases: would it stay if these very networks were tested on other patients of the same kind? (Paired bootstrap: whole cases "
    "drawn again from the stored predictions, the same draws for both arms, seeds averaged; middle 95 % of the draws, each difference by "
    "itself.)",
    "Neither answers the other's question. A finding to build on holds in both.",
)


@dataclass(frozen=True)
class CaseRow:
    """An arm against the baseline. `cases`: over cases, None where the two were not tested on the same samples; `seeds`: over seeds.

    runs: how many of the arm's, and of the baseline's, have predictions. holds: for whom the difference is told from zero, in words.
    """

    arm: str
    cases: Estimate | None
    seeds: Estimate | None
    runs: tuple[int, int]
    holds: str


@dataclass(frozen=True)
class CaseTable:
    """One metric. `samples` and `cases` are the baseline's; cases are groups of samples or, where not `grouped`, samples."""

    key: str
    baseline: str
    rows: list[CaseRow]
    samples: int
    cases: int
    grouped: bool
    digits: int
    sentences: list[str]

    @property
    def unit(self) -> str:
        return "case" if self.grouped else "image"


def case_tables(study: Study, found: Mapping[str, OverCases], comparisons: Sequence[Comparison]) -> list[CaseTable]:
    """One for each compared metric that has predictions of the baseline and of another arm."""
    tables = [_table(study, one, found[one.key].arms) for one in comparisons if one.key in found]
    return [table for table in tables if table is not None]


def _table(study: Study, comparison: Comparison, arms: Mapping[str, list[Scored]]) -> CaseTable | None:
    base = arms.get(study.baseline)
    if base is None or len(arms) < 2:
        return None
    seeds = {row.arm: row for row in comparison.rows}
    rows = [_row(arm, arms[arm], base, seeds[arm].difference) for arm in study.arms if arm in arms]
    rows = [row for row in rows if row.arm != study.baseline]
    n = {arm: (len(of), len(seeds[arm].values)) for arm, of in arms.items()}
    names, one = words.distinct_names(study.arms), base[0]
    sentences = _sentences(comparison, rows, one, names)
    sentences += [
        f"{names[arm]} has predictions of {have} of {words.plural(of, 'seed')}: over cases, the mean is of these."
        for arm, (have, of) in n.items()
        if have < of
    ]
    return CaseTable(
        comparison.key, study.baseline, rows, one.samples, one.cases, one.grouped, comparison.digits, sentences
    )


def _row(arm: str, runs: list[Scored], base: list[Scored], seeds: Estimate | None) -> CaseRow:
    same = len({one.sample for one in (*runs, *base)}) == 1
    cases = estimate(runs, base) if same else None
    return CaseRow(arm, cases, seeds, (len(runs), len(base)), _holds(seeds, cases))


def _holds(seeds: Estimate | None, cases: Estimate | None) -> str:
    """Where the difference is told from zero: for other seeds as the verdict has it, for other cases by its interval."""
    by_seeds, by_cases = (one.told_apart if one else None for one in (seeds, cases))
    if by_seeds is None or by_cases is None:
        known = "" if by_cases is None else "other cases" if by_cases else "not other cases"
        known = known if by_seeds is None else "other seeds" if by_seeds else "not other seeds"
        unknown = [name for name, told in (("seeds", by_seeds), ("cases", by_cases)) if told is None]
        return f"{known}{'; ' if known else ''}{' and '.join(unknown)} not known"
    if by_seeds and by_cases:
        return "both" if (seeds.value > 0) == (cases.value > 0) else "neither: they point apart"
    return "other seeds only" if by_seeds else "other cases only" if by_cases else "neither"


def _sentences(comparison: Comparison, rows: list[CaseRow], base: Scored, names: Mapping[str, str]) -> list[str]:
    """What holds in both; of few cases or of other samples, that nothing can be said."""
    sentences, unit = [], "case" if base.grouped else "image"
    if base.cases < LEAST_CASES:
        sentences.append(too_few(base.cases, unit, comparison.key))
    elif known := [
        row for row in rows if row.cases is not None and row.seeds is not None and row.seeds.low is not None
    ]:
        both = [names[row.arm] for row in known if row.holds == "both"]
        of = f"Of {words.plural(len(known), 'difference')} to {names[comparison.baseline]} in {words.full_title(comparison.key)}"
        holds = f"{len(both)} {'holds' if len(both) == 1 else 'hold'}" if both else "none holds"
        sentences.append(f"{of}, {holds} for other seeds and other {unit}s{': ' if both else ''}{', '.join(both)}.")
    other = [names[row.arm] for row in rows if row.cases is None]
    if other:
        where = f"{names[comparison.baseline]} in {words.full_title(comparison.key)}"
        sentences.append(f"Not tested on the same samples as {where}, so not compared over cases: {', '.join(other)}.")
    return sentences


def case_views(tables: Sequence[CaseTable], styles: Mapping[str, int]) -> list[dict[str, Any]]:
    """The tables for the page: numbers as text, and both intervals of a row on one scale."""
    views = []
    for table in tables:
        known = [one for row in table.rows for one in (row.seeds, row.cases) if one]
        ends = [end for one in known for end in (one.value, one.low, one.high) if end is not None]
        scale = axis([0.0, *ends], 14, 226, 3)
        rows = [
            {
                "row": row,
                "chart": charts.pair_chart(scale, row.seeds, row.cases, styles[row.arm], table.digits),
                "seeds": _text(row.seeds, table.digits),
                "cases": _text(row.cases, table.digits),
            }
            for row in table.rows
        ]
        lower = any(row.cases and row.cases.low is not None for row in table.rows)
        views.append({"table": table, "rows": rows, "ruler": charts.ruler(scale), "lower": lower})
    return views


def _text(found: Estimate | None, digits: int) -> str:
    return words.change(found, digits) if found else "—"


def cases_csv(study: Study, tables: Sequence[CaseTable]) -> str:
    """One line for each metric and arm, in full precision."""
    lines = []
    for table in tables:
        for row in table.rows:
            line = {"metric": table.key, "arm": row.arm, "baseline": table.baseline, "unit": table.unit}
            line |= {"samples": table.samples, "cases": table.cases, "runs": row.runs[0], "baseline_runs": row.runs[1]}
            for name, one in (("over_cases", row.cases), ("over_seeds", row.seeds)):
                line |= {name: one and one.value, f"{name}_low": one and one.low, f"{name}_high": one and one.high}
                line |= {f"{name}_told_apart": one and one.told_apart}
            lines.append(line | {"holds": row.holds, "tested_on_training": leaked(study, table.key, row.arm)})
    return csv_text(lines)


def case_sheets(study: Study, tables: Sequence[CaseTable]) -> list[Sheet]:
    """The page's tables for Markdown and LaTeX."""
    sheets, names = [], words.distinct_names(study.arms)
    for table in tables:
        marked = mark(study, table.key)
        title = f"{words.full_title(table.key)}, minus {names[table.baseline]}{f' — {marked}' if marked else ''}"
        rows = [
            [
                named(study, table.key, row.arm),
                row.holds,
                *(_text(one, table.digits) for one in (row.seeds, row.cases)),
            ]
            for row in table.rows
        ]
        of = f"{words.plural(table.samples, 'sample')} of {words.plural(table.cases, table.unit)}"
        head = ["arm", "holds for", "over seeds", f"over {table.unit}s"]
        sheets.append(Sheet(title, head, rows, 2, [f"{of}. Intervals are 95 %.", *table.sentences]))
    return sheets
