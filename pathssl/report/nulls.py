"""The arms beside what has learned nothing, with intervals over cases from the stored predictions."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pathssl.report import words
from pathssl.report.over_cases import LEAST_CASES, OverCases, estimate, too_few
from pathssl.report.scored import Scored
from pathssl.report.statistics import Estimate
from pathssl.report.study import Study


@dataclass(frozen=True)
class NullRow:
    """An arm at its last checkpoint, or a null of some arms; `arm` is None for nulls.

    differences: {null: arm minus its own null, over the same cases}.
    """

    name: str
    arm: str | None
    value: Estimate
    differences: dict[str, Estimate]


@dataclass(frozen=True)
class NullTable:
    """One task by one protocol. `n` of the estimates is the number of runs; their intervals are over `cases`, which are groups of
    samples, or, where nobody said whose they are, the samples.
    """

    key: str
    rows: list[NullRow]
    nulls: list[str]
    samples: int
    cases: int
    grouped: bool
    sentences: list[str]

    @property
    def unit(self) -> str:
        return "case" if self.grouped else "image"


def null_tables(study: Study, found: Mapping[str, OverCases]) -> list[NullTable]:
    """One for each metric that has predictions of arms and of nulls."""
    return [table for key, of in found.items() if (table := _table(study, key, of.arms, of.nulls)) is not None]


def _table(
    study: Study, key: str, arms: Mapping[str, list[Scored]], nulls: Mapping[str, Mapping[str, list[Scored]]]
) -> NullTable | None:
    everything = [one for of in (arms, *nulls.values()) for runs in of.values() for one in runs]
    if not nulls or len({one.sample for one in everything}) > 1:
        return None  # without nulls, or of different samples, there is nothing to compare
    short = words.distinct_names(study.arms)
    rows = [_row(arm, arms[arm], nulls) for arm in study.arms if arm in arms]
    for null, of_arms in nulls.items():
        same = _alike(of_arms)
        for group in same:
            whose = f" ({', '.join(short[arm] for arm in group)})" if len(same) > 1 else ""
            rows.append(NullRow(f"{null}{whose}", None, estimate(of_arms[group[0]]), {}))
    one = everything[0]
    table = NullTable(key, rows, list(nulls), one.samples, one.cases, one.grouped, [])
    return replace(table, sentences=_sentences(table, short))


def _alike(of_arms: Mapping[str, list[Scored]]) -> list[list[str]]:
    """Arms whose null is the same to the last digit: of one architecture, that is, and of the same seeds."""
    groups: dict[tuple, list[str]] = defaultdict(list)
    for arm, runs in of_arms.items():
        groups[tuple(sorted((run.seed, run.value) for run in runs))].append(arm)
    return list(groups.values())


def _row(arm: str, runs: list[Scored], nulls: Mapping[str, Mapping[str, list[Scored]]]) -> NullRow:
    """Beside the nulls of the same arm: another's architecture says nothing of this one."""
    differences = {null: estimate(runs, of[arm]) for null, of in nulls.items() if arm in of}
    return NullRow(arm, arm, estimate(runs), differences)


def _sentences(table: NullTable, short: dict[str, str]) -> list[str]:
    """Which arms do not beat a null; of few cases, that nothing can be said."""
    if table.cases < LEAST_CASES:
        return [too_few(table.cases, table.unit, table.key), *_below(table, short)]
    digits = words.decimals(row.value.value for row in table.rows)
    return [
        f"{short[row.arm]} does not beat {null} in {words.full_title(table.key)}: {words.change(found, digits)} over {table.unit}s."
        for row in table.rows
        for null, found in row.differences.items()
        if found.low is not None and found.low <= 0
    ]


def _below(table: NullTable, short: dict[str, str]) -> list[str]:
    """Which arms are not above a null in the mean, where there is no interval to say more."""
    sentences = []
    for null in table.nulls:
        found = [short[row.arm] for row in table.rows if null in row.differences and row.differences[null].value <= 0]
        if found:
            said = f"Without an interval, in the mean: not above {null} in {words.full_title(table.key)}: {', '.join(found)}."
            sentences.append(said)
    return sentences
