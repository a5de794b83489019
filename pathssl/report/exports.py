"""The report's numbers as files for other programs and other pages: CSV and Markdown."""

import csv
import io
from collections.abc import Mapping, Sequence

from pathssl.metric_keys import NULLS
from pathssl.report import words
from pathssl.report.comparison import Comparison, Reading, Row, Verdict, effect_size, minimum_detectable
from pathssl.report.coverage import Account
from pathssl.report.gain import unlearned, unsaid
from pathssl.report.leaks import MARK
from pathssl.report.nulls import NullTable
from pathssl.report.statistics import Estimate, pooled_spread
from pathssl.report.study import Study, leaked, mark
from pathssl.report.tables import run_rows, state_counts
from pathssl.report.unequal import Unequal

NULL_ROWS = ("initialisation", *(words.name(null) for null in NULLS))
EFFECT = "In sd: the difference in pooled standard deviations between seeds (Cohen's d), which few seeds overstate."
_NAMED = 10  # slides that a sentence of the Markdown names


def arms_csv(study: Study, comparisons: list[Comparison], unequal: Mapping[str, Unequal]) -> str:
    """One line for each metric and arm, with the numbers of the page in full precision."""
    lines = []
    for comparison in comparisons:
        for row in comparison.rows:
            line = {"metric": comparison.key, "arm": row.arm, "seeds": len(row.values)}
            line |= _columns("last", row.last) | {"step0": row.step0} | _columns("gain", row.gain)
            line |= {"baseline": comparison.baseline} | _columns("difference", row.difference)
            line |= (
                {"p": row.difference.p, "p_holm": row.difference.adjusted}
                if row.difference
                else {"p": None, "p_holm": None}
            )
            line |= {"difference_in_sd": effect_size(comparison, row)}
            line |= {"minimum_detectable": minimum_detectable(comparison, row) if _tested(row) else None}
            line["told_apart"] = row.difference.told_apart if row.difference else None
            line |= {"pooled_sd": comparison.spread.sd, "degrees_of_freedom": comparison.spread.df}
            line |= {"tested_on_training": leaked(study, comparison.key, row.arm)}
            line |= {"sd": pooled_spread({row.arm: [x for _, x in row.values]}).sd if len(row.values) > 1 else None}
            lines.append(line | _without_pooling(unequal.get(comparison.key), row.arm))
    return csv_text(lines)


def _without_pooling(unequal: Unequal | None, arm: str) -> dict[str, float | str | None]:
    welch = unequal.welch.get(arm) if unequal else None
    low, high, p, adjusted = (welch.low, welch.high, welch.p, welch.adjusted) if welch else (None,) * 4
    columns = {"welch_low": low, "welch_high": high, "p_welch": p, "p_welch_holm": adjusted}
    return columns | {"unequal_variances": unequal.sentence if unequal else None}


def _tested(row: Row) -> bool:
    return row.difference is not None and row.difference.low is not None


def _columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    value, low, high = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def runs_csv(study: Study) -> str:
    """One line for each run: its state, and every measure at step 0 and at the run's last checkpoint."""
    keys = study.keys("probe/", "unsupervised/")
    lines = []
    for run, row in zip(study.runs, run_rows(study), strict=True):
        probed = run.probed
        line = row | {"read_at_patches": probed[-1] if probed else None}
        for key in keys:
            series = run.series.get(key)
            line[key] = series.at(probed[-1]) if series else None
            line[f"{key} at step 0"] = series.at(0) if series else None
        lines.append(line)
    return csv_text(lines)


def coverage_csv(slides: Account) -> str:
    """One line for each arm and magnification (empty: all of them), with means over the arm's runs."""
    lines = [
        {"arm": arm, "runs": one.runs} | row | {"mpp": _ends(row["mpp"])}
        for one in slides.covered
        for arm in one.arms
        for row in one.rows
    ]
    return csv_text(lines)


def _ends(mpp: float | Sequence[float] | None) -> float | str | None:
    """An interval as 0.25-0.5."""
    return mpp if mpp is None or isinstance(mpp, int | float) else "-".join(f"{m:g}" for m in mpp)


def faults_csv(slides: Account) -> str:
    """One line for each slide that was left out (quarantined), and for each on which draws failed (replaced)."""
    lines = [
        {"slide": slide, "fault": "quarantined", "draws": None, "runs": None, "reason": one.reason}
        | {"arms": " ".join(one.arms)}
        for one in slides.quarantined
        for slide in one.slides
    ]
    lines += [
        {"slide": one.slide, "fault": "replaced", "draws": one.draws, "runs": one.runs, "reason": one.reason}
        | {"arms": " ".join(one.arms)}
        for one in slides.replaced
    ]
    return csv_text(lines)


def nulls_csv(study: Study, tables: list[NullTable]) -> str:
    """One line for each metric and row, with intervals over cases."""
    lines = []
    for table in tables:
        for row in table.rows:
            line = {
                "metric": table.key,
                "row": row.name,
                "kind": "null" if row.arm is None else "arm",
                "runs": row.value.n,
            }
            line |= {"samples": table.samples, "cases": table.cases, "unit": table.unit} | _columns("value", row.value)
            for null in NULL_ROWS:
                line |= _columns(f"minus_{null}", row.differences.get(null))
            of_task = leaked(study, table.key, row.arm) if row.arm else leaked(study, table.key)
            lines.append(line | {"tested_on_training": of_task})
    return csv_text(lines)


def csv_text(lines: list[dict]) -> str:
    """The lines under the names of their columns, which are those of the first; empty where there is none."""
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return text.getvalue()


def markdown(
    study: Study,
    reading: Reading,
    comparisons: list[Comparison],
    answers: list[Verdict],
    unequal: Mapping[str, Unequal],
    gain: str | None,
    slides: Account,
    nulls: list[NullTable],
) -> str:
    """The verdict, the arms' tables and what was seen of the slides, for a README or an issue."""
    lines = [f"# {plain(study.name)}", ""]
    if study.question:
        lines += [plain(study.question), ""]
    if shared := words.all_share(study.arms):
        lines += [plain(shared), ""]
    for key in study.family:
        lines += [f"**{plain(words.title(key))}** ({plain(words.context(key))}){_some_mark(study, key)}:", ""]
        lines += [f"- {plain(verdict.sentence)}" for verdict in answers if verdict.key == key]
        lines += [f"- {plain(unequal[key].sentence)}"] if key in unequal else []
    warnings = unlearned(study, reading, comparisons, nulls)
    told = unsaid(gain, warnings)
    lines += [f"- {plain(told)}"] if told else []
    lines += [
        *(f"\n> {plain(warning)}" for warning in warnings),
        "",
        f"{state_counts(study)}. {reading.sentence}",
        *(f"\n> {plain(notice)}" for notice in study.notices),
        "",
    ]
    for comparison in comparisons:
        head, rows = arm_cells(study, comparison)
        title = f"{words.title(comparison.key)} ({words.context(comparison.key)}){marked(study, comparison.key)}"
        lines += [f"## {plain(title)}", "", f"| {' | '.join(map(plain, head))} |", f"|---|{'---:|' * (len(head) - 1)}"]
        lines += [*(f"| {' | '.join([plain(row[0]), *row[1:]])} |" for row in rows), ""]
        if comparison.key in unequal and comparison.key not in study.family:
            lines += [f"> {plain(unequal[comparison.key].sentence)}", ""]
    lines += [f"{EFFECT}\n"] if any(row.difference for one in comparisons for row in one.rows) else []
    return "\n".join(lines + _nulls(study, nulls) + _slides(study, slides))


def arm_cells(study: Study, comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of a metric's table, as texts."""
    digits, names = comparison.digits, words.distinct_names(study.arms)
    head = ["arm", "seeds", "last checkpoint", "step 0", "gain", f"difference to {names[comparison.baseline]}", "in sd"]
    rows = [
        [
            f"{names[row.arm]}{marked(study, comparison.key, row.arm)}",
            str(len(row.values)),
            words.interval(row.last, digits) if row.last else "—",
            words.number(row.step0, digits) if row.step0 is not None else "—",
            words.change(row.gain, digits) if row.gain else "—",
            words.change(row.difference, digits) if row.difference else "—",
            words.effect(effect_size(comparison, row)),
        ]
        for row in comparison.rows
    ]
    return head, rows


def marked(study: Study, key: str, arm: str | None = None) -> str:
    """Of a whole table, or of the row of an arm in one that is not marked as a whole."""
    whole = leaked(study, key)
    return f" — {MARK}" if (whole if arm is None else leaked(study, key, arm) and not whole) else ""


def _some_mark(study: Study, key: str) -> str:
    marked = mark(study, key)
    return f" — {plain(marked)}" if marked else ""


def _nulls(study: Study, tables: list[NullTable]) -> list[str]:
    lines = ["## Beside what has learned nothing", "", "Intervals are 95 %, over cases.", ""] if tables else []
    names = words.distinct_names(study.arms)
    for table in tables:
        digits = words.decimals(row.value.value for row in table.rows)
        title = plain(f"{words.full_title(table.key)}{marked(study, table.key)}")
        lines += [f"| {title} | value | {' | '.join(f'minus {null}' for null in table.nulls)} |"]
        lines += [f"|---|---:|{'---:|' * len(table.nulls)}"]
        for row in table.rows:
            changes = [
                words.change(row.differences[null], digits) if null in row.differences else "—" for null in table.nulls
            ]
            leaking = marked(study, table.key, row.arm) if row.arm else ""
            lines.append(
                f"| {plain(names.get(row.arm, row.name))}{leaking} | {words.interval(row.value, digits)} | {' | '.join(changes)} |"
            )
        lines += ["", *(f"- {plain(sentence)}" for sentence in table.sentences), ""]
    return lines


def _slides(study: Study, slides: Account) -> list[str]:
    lines = ["## Slides", ""] if slides.covered or slides.quarantined or slides.replaced else []
    if slides.covered:
        lines += ["| arms | magnification | patches | slides | cases | sites | tissue, mm² | read, mm² | times over |"]
        lines += ["|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    names = words.distinct_names(study.arms)
    for one in slides.covered:
        arms = "all" if len(one.arms) == len(study.arms) else plain(", ".join(names[arm] for arm in one.arms))
        for row in one.rows:
            cells = [arms, words.magnification(row["mpp"]), words.mean_count(row["patches"])]
            cells += [f"{words.mean_count(row['slides'])} of {words.mean_count(row['usable_slides'])}"]
            cells += [words.mean_count(row["cases"]), words.mean_count(row["sites"])]
            cells += [words.quantity(row[name]) for name in ("tissue_mm2", "read_mm2", "times_over")]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [""] if slides.covered else []
    for one in slides.quarantined:
        lines.append(
            f"- In quarantine, {words.plural(len(one.slides), 'slide')}: {plain(one.reason)}: {_some(one.slides)}"
        )
    if slides.sentence:
        lines += [f"- {slides.sentence} {_some([one.slide for one in slides.replaced])}"]
    return [*lines, ""] if lines else []


def _some(slides: list[str]) -> str:
    more = len(slides) - _NAMED
    named = ", ".join(plain(slide) for slide in slides[:_NAMED])
    return f"{named} and {more} more (faults.csv)" if more > 0 else named


def plain(text: str) -> str:
    """`text` with Markdown's and HTML's own signs made harmless."""
    for sign in "\\`*[]|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
