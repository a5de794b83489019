"""The arms beside what has learned nothing, with intervals over cases from the stored predictions.

Axes: S draws of cases.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pathssl import records
from pathssl.metrics.bootstrap import interval
from pathssl.report import words
from pathssl.report.comparison import LEVEL, Reading
from pathssl.report.scored import Scored, drawn, scored
from pathssl.report.statistics import Estimate
from pathssl.report.study import Study, initialised

_INITIALISATION = "initialisation"
# With fewer cases, 95 % intervals by percentiles hold the truth in about 85 % of simulations (at chance, with 9 cases), and less below.
LEAST_CASES = 10


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


def null_tables(study: Study, reading: Reading) -> list[NullTable]:
    """One for each metric that the study compares, that is counted by case and has predictions."""
    keys = [key for key in study.metrics if key.startswith("probe/") and drawn(key)]
    return [table for key in keys if (table := _table(study, reading, key)) is not None]


def _table(study: Study, reading: Reading, key: str) -> NullTable | None:
    arms, nulls = _read(reading, key)
    everything = [one for of in (arms, *nulls.values()) for runs in of.values() for one in runs]
    if not arms or not nulls or len({one.ids for one in everything}) > 1:
        return None  # without nulls, or of different samples, there is nothing to compare
    short = words.distinct_names(study.arms)
    rows = [_row(arm, arms[arm], nulls) for arm in study.arms if arm in arms]
    for null, of_arms in nulls.items():
        same = _alike(of_arms)
        for group in same:
            whose = f" ({', '.join(short[arm] for arm in group)})" if len(same) > 1 else ""
            rows.append(NullRow(f"{null}{whose}", None, _estimate(of_arms[group[0]]), {}))
    one = everything[0]
    table = NullTable(key, rows, list(nulls), len(one.ids), len(one.cases), one.grouped, [])
    return replace(table, sentences=_sentences(table, short))


def _read(reading: Reading, key: str) -> tuple[dict[str, list[Scored]], dict[str, dict[str, list[Scored]]]]:
    """({arm: its runs}, {null: {arm: its runs' nulls}})."""
    _, task, protocol, split, metric = key.split("/")
    arms, nulls = defaultdict(list), defaultdict(lambda: defaultdict(list))
    for run, patches in zip(reading.runs, reading.patches, strict=True):
        steps = {
            probe["patches_seen"]: probe["step"] for probe in records.read_probes(run.folder) if probe["task"] == task
        }

        def found(step: int | None, protocol: str, folder=run.folder) -> list[Scored]:
            one = scored(folder, step, task, protocol, split, metric)
            return [] if one is None else [one]

        arms[run.arm] += found(steps.get(patches), protocol)
        if patches and initialised(run.config):
            nulls[_INITIALISATION][run.arm] += found(steps.get(0), protocol)
        for null in records.NULLS:
            nulls[words.name(null)][run.arm] += found(steps.get(0), f"{protocol}_{null}")
    there = {null: {arm: runs for arm, runs in of.items() if runs} for null, of in nulls.items()}
    return {arm: runs for arm, runs in arms.items() if runs}, {null: of for null, of in there.items() if of}


def _alike(of_arms: dict[str, list[Scored]]) -> list[list[str]]:
    """Arms whose null is the same to the last digit: of one architecture, that is, and of the same seeds."""
    groups: dict[tuple, list[str]] = defaultdict(list)
    for arm, runs in of_arms.items():
        groups[tuple(sorted((run.seed, run.value) for run in runs))].append(arm)
    return list(groups.values())


def _row(arm: str, runs: list[Scored], nulls: dict[str, dict[str, list[Scored]]]) -> NullRow:
    """Beside the nulls of the same arm: another's architecture says nothing of this one."""
    differences = {null: _estimate(runs, of[arm]) for null, of in nulls.items() if arm in of}
    return NullRow(arm, arm, _estimate(runs), differences)


def _estimate(runs: Sequence[Scored], minus: Sequence[Scored] | None = None) -> Estimate:
    """The mean over runs, minus that of others, with the interval of both over the same draws of cases; of few cases without one."""
    value, values_S = _mean(runs)
    if minus:
        other, others_S = _mean(minus)
        value, values_S = value - other, values_S - others_S
    low, high = interval(values_S, LEVEL) if len(runs[0].cases) >= LEAST_CASES else (None, None)
    return Estimate(value, low, high, len(runs))


def _mean(runs: Sequence[Scored]) -> tuple[float, np.ndarray]:
    return float(np.mean([run.value for run in runs])), np.mean([run.values_S for run in runs], axis=0)


def _sentences(table: NullTable, short: dict[str, str]) -> list[str]:
    """Which arms do not beat a null; of few cases, that nothing can be said."""
    if table.cases < LEAST_CASES:
        few = words.plural(table.cases, table.unit)
        return [f"{few} are too few for an interval in {words.full_title(table.key)}: {LEAST_CASES} are wanted."]
    digits = words.decimals(row.value.value for row in table.rows)
    return [
        f"{short[row.arm]} does not beat {null} in {words.full_title(table.key)}: {words.change(found, digits)} over {table.unit}s."
        for row in table.rows
        for null, found in row.differences.items()
        if found.low is not None and found.low <= 0
    ]
