"""Each run's last checkpoint beside the one that its validation split would have chosen; nothing is chosen on a test split."""

from dataclasses import dataclass

from pathssl import metric_keys
from pathssl.report import words
from pathssl.report.comparison import LEVEL, Comparison, Reading, compare_all, measured
from pathssl.report.compute import outcomes
from pathssl.report.exports import csv_text
from pathssl.report.sheets import Sheet
from pathssl.report.statistics import NOTHING_KNOWN, Estimate, mean, pooled_spread
from pathssl.report.stopping import best, checkpoints
from pathssl.report.study import Run, Study, leaked, mark, named

_HOW = (
    "The peak is the value on test at the checkpoint where the run's own validation split of the same task and protocol is best "
    "(the earliest of equals), chosen for each run by itself, among checkpoints after step 0; a run that does not train has step 0 "
    "alone. It may lie below the final value: it is not the best on test."
)
_ZEROS = (
    "Peak minus final is exactly 0 in runs whose last checkpoint is chosen; where most are, its interval (Student t, the spread pooled "
    "over arms) is rough."
)


@dataclass(frozen=True)
class PeakRow:
    """One arm, over the runs that have both values. `chosen`: [(seed, patches seen at the chosen checkpoint)].

    Outcomes are verdicts as comparison.Verdict has them, None for the baseline.
    """

    arm: str
    final: Estimate
    peak: Estimate
    change: Estimate
    chosen: list[tuple[int, float]]
    final_difference: Estimate | None
    peak_difference: Estimate | None
    final_outcome: str | None
    peak_outcome: str | None

    @property
    def chosen_text(self) -> str:
        """After how many patches, by seed; once where all are the same."""
        places = [words.count(patches) for _, patches in self.chosen]
        return places[0] if len(set(places)) == 1 else ", ".join(places)


@dataclass(frozen=True)
class PeakTable:
    """One metric: `rows`, or why there are none. `final`: what the checkpoint is called that the study is read at."""

    key: str
    chosen_by: str
    baseline: str
    digits: int
    final: str
    rows: list[PeakRow]
    sentence: str
    why_not: str | None
    notes: list[str]


def peak_tables(study: Study, reading: Reading, comparisons: list[Comparison]) -> list[PeakTable]:
    """One for each metric that gets verdicts, and the primary one."""
    wanted = {study.primary, *study.family}
    chosen = [one for one in comparisons if one.key in wanted and one.trained]
    at_peak = {one.key: one for one in compare_all(study, reading, peak_value)} if chosen else {}
    return [_table(study, reading, one, at_peak[one.key]) for one in chosen]


def why_no_choice(study: Study, key: str) -> str | None:
    """Why no checkpoint can be chosen without looking at what is reported; None where one can."""
    if "/test/" not in key:
        split = "is itself on validation images" if "/val/" in key else "has no validation split"
        return f"{words.full_title(key)} {split}: a peak cannot be chosen without looking at what it is read on, so none is shown."
    if not study.keys(metric_keys.validation_of(key)):
        return f"No run has {metric_keys.validation_of(key)}: a peak cannot be chosen without looking at the test split, so none is shown."
    return None


def chosen_at(run: Run, key: str, patches: float) -> float | None:
    """The patches seen at the checkpoint with the best validation, of those that may be chosen and have the metric itself too."""
    val = metric_keys.validation_of(key)
    places = checkpoints(run, patches, [key, val])
    return float(places[best(key, [run.series[val].at(place) for place in places])]) if len(places) else None


def peak_value(run: Run, key: str, patches: float) -> float | None:
    """The metric at the checkpoint that validation chose."""
    at = chosen_at(run, key, patches)
    return None if at is None else measured(run, key, at)


def _table(study: Study, reading: Reading, final: Comparison, peak: Comparison) -> PeakTable:
    key, where = final.key, "Common checkpoint" if reading.provisional else "Last checkpoint"
    why_not = why_no_choice(study, key)
    if why_not:
        return PeakTable(key, "", final.baseline, final.digits, where, [], why_not, why_not, [])
    rows = _rows(reading, final, peak)
    notes = [_HOW, _ZEROS]
    without = sum(len(row.values) for row in final.rows) - sum(len(row.chosen) for row in rows)
    if without:
        those = f"{words.plural(without, 'run')} {'is' if without == 1 else 'are'}"
        notes.append(f"{those} left out of the peak, without a checkpoint after step 0 that has both splits.")
    sentence = _sentence(study, key, rows, where.lower())
    return PeakTable(
        key, metric_keys.validation_of(key), final.baseline, final.digits, where, rows, sentence, None, notes
    )


def _rows(reading: Reading, final: Comparison, peak: Comparison) -> list[PeakRow]:
    last = {(row.arm, seed): value for row in final.rows for seed, value in row.values}
    changes = {
        row.arm: [value - last[row.arm, seed] for seed, value in row.values if (row.arm, seed) in last]
        for row in peak.rows
    }
    trained = {run.arm for run in reading.runs if not run.untrained}
    spread = pooled_spread({arm: x for arm, x in changes.items() if arm in trained})
    chosen: dict[str, list[tuple[int, float]]] = {row.arm: [] for row in peak.rows}
    for run, patches in zip(reading.runs, reading.patches, strict=True):
        at = chosen_at(run, final.key, patches)
        if at is not None:
            chosen[run.arm].append((run.seed, at))
    before, after = outcomes(final), outcomes(peak)
    return [
        PeakRow(
            arm=row.arm,
            final=of_final.last,
            peak=row.last,
            change=mean(changes[row.arm], spread if row.arm in trained else NOTHING_KNOWN, LEVEL),
            chosen=chosen[row.arm],
            final_difference=of_final.difference,
            peak_difference=row.difference,
            final_outcome=before.get(row.arm),
            peak_outcome=after.get(row.arm),
        )
        for of_final, row in zip(final.rows, peak.rows, strict=True)
        if row.last and of_final.last and changes[row.arm]
    ]


def _sentence(study: Study, key: str, rows: list[PeakRow], where: str) -> str:
    """Whether the verdicts by the peak are those by the last checkpoint, and where they are not."""
    names = words.distinct_names(study.arms)
    compared = [row for row in rows if row.final_outcome and row.peak_outcome]
    unlike = [
        f"{names[row.arm]} (at the {where}: {words.VERDICTS[row.final_outcome]}; at the peak: {words.VERDICTS[row.peak_outcome]})"
        for row in compared
        if row.final_outcome != row.peak_outcome
    ]
    measure = words.full_title(key)
    if unlike:
        return f"In {measure}, verdicts differ for {'; '.join(unlike)}."
    if not compared:
        return f"In {measure}, there is nothing to compare."
    every = (
        "the verdict at the peak is that"
        if len(compared) == 1
        else f"all {len(compared)} verdicts at the peak are those"
    )
    return f"In {measure}, {every} of the {where}."


def peak_csv(study: Study, tables: list[PeakTable]) -> str:
    """One line for each metric and arm, in full precision; patches seen at the chosen checkpoints by seed."""
    lines = [
        {"metric": table.key, "chosen_by": table.chosen_by, "arm": row.arm, "runs": len(row.chosen)}
        | _columns("final", row.final)
        | _columns("peak", row.peak)
        | _columns("peak_minus_final", row.change)
        | {"chosen_at_patches": " ".join(f"seed{seed}:{patches:.0f}" for seed, patches in row.chosen)}
        | {"baseline": table.baseline}
        | _tested("final", row.final_difference, row.final_outcome)
        | _tested("peak", row.peak_difference, row.peak_outcome)
        | {"tested_on_training": leaked(study, table.key, row.arm)}
        for table in tables
        for row in table.rows
    ]
    return csv_text(lines)


def _columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    value, low, high = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _tested(name: str, found: Estimate | None, outcome: str | None) -> dict[str, object]:
    columns = _columns(f"{name}_difference", found) | {f"{name}_p_holm": found and found.adjusted}
    return columns | {f"{name}_outcome": outcome}


def peak_sheets(study: Study, tables: list[PeakTable]) -> list[Sheet]:
    """A table for each metric; one that has none says why."""
    sheets, names = [], words.distinct_names(study.arms)
    for table in tables:
        marked = mark(study, table.key)
        title = f"{words.full_title(table.key)}{f' — {marked}' if marked else ''}"
        head = ["arm", table.final, "peak", "peak minus final", "chosen after patches"]
        head += [f"{table.final} minus {names[table.baseline]}", f"peak minus {names[table.baseline]}"]
        rows = [[named(study, table.key, row.arm), *_cells(row, table.digits)] for row in table.rows]
        sheets.append(Sheet(title, head, rows, 1, [table.sentence, *table.notes]))
    return sheets


def _cells(row: PeakRow, digits: int) -> list[str]:
    differences = [(row.final_difference, row.final_outcome), (row.peak_difference, row.peak_outcome)]
    return [
        words.interval(row.final, digits),
        words.interval(row.peak, digits),
        words.change(row.change, digits),
        row.chosen_text,
        *(f"{words.change(one, digits)}: {words.VERDICTS[outcome]}" if one else "—" for one, outcome in differences),
    ]
