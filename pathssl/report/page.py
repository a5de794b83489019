"""The report as one self-contained HTML page."""

from collections.abc import Sequence
from functools import partial

from pathssl.metric_keys import of_null
from pathssl.report import charts, exports, tables, words
from pathssl.report.cases import QUESTIONS, case_views
from pathssl.report.comparison import (
    LEVEL,
    Comparison,
    Reading,
    Verdict,
    basis_of,
    effect_size,
    headline,
    reach,
    why_no_interval,
)
from pathssl.report.curves import curves
from pathssl.report.findings import Findings
from pathssl.report.gain import unsaid
from pathssl.report.heatmap import heat_view
from pathssl.report.labelfree import label_free_view
from pathssl.report.leaks import MARK
from pathssl.report.pictures import KINDS, strips
from pathssl.report.study import Study, leaked, mark
from pathssl.report.svg import Axis, axis
from pathssl.report.templates import render

_UNCHARTED = ("/f1", "/auroc")  # beside balanced accuracy, unless the study asks for them


def page(found: Findings, files: Sequence[str]) -> str:
    """The page of a study. `files`: the names of those beside it, which have the same numbers."""
    study, reading, comparisons, answers = found.study, found.reading, found.comparisons, found.answers
    styles = {arm: style for style, arm in enumerate(study.arms)}
    shown, unseen = strips(study)
    return render(
        "page.html.j2",
        words=words,
        charts=charts,
        study=study,
        reading=reading,
        styles=styles,
        state=tables.state_counts(study),
        answered=[_answers(one, answers, styles) for one in comparisons if one.key in study.family],
        family=sum(answer.outcome != "open" for answer in answers) or len(answers),
        unequal=found.unequal,
        gain=unsaid(found.gain, found.unlearned),
        unlearned=found.unlearned,
        level=f"{100 * LEVEL:.0f} %",
        reach=reach(comparisons[0]) if comparisons else None,
        headline=headline(study, answers),
        names=words.distinct_names(study.arms),
        common=words.common_overrides(study.arms),
        effect=exports.EFFECT,
        comparisons=[_arms_table(comparison, styles, comparison.key in study.family) for comparison in comparisons],
        leaked=partial(leaked, study),
        some=partial(mark, study),
        mark=MARK,
        nulls=[(table, words.decimals(row.value.value for row in table.rows)) for table in found.nulls],
        compute=found.compute,
        pareto=found.pareto,
        peak=found.peak,
        cases=case_views(found.cases, styles),
        case_questions=QUESTIONS,
        labelfree=label_free_view(found.labelfree, study, styles),
        heatmap=heat_view(found.heatmap, study),
        published=found.published,
        tasks=found.tasks,
        groups=_chart_groups(study, reading),
        throughput=tables.throughput(study),
        kinds=KINDS,
        strips=shown,
        unseen=unseen,
        differences=tables.config_differences(study),
        data=tables.data_rows(study),
        slides=found.slides,
        runs=tables.run_rows(study),
        files=files,
        commands=_commands(study),
    )


def _answers(comparison: Comparison, answers: list[Verdict], styles: dict[str, int]) -> dict:
    """A metric's verdicts, each with its picture; all share one scale that holds zero."""
    mine = [answer for answer in answers if answer.key == comparison.key]
    scale = _scale([answer.difference for answer in mine], [0.0], 260) if mine else None
    digits = comparison.digits
    shown = [
        {
            "verdict": answer,
            "numbers": words.change(answer.difference, digits),
            "chart": charts.difference_chart(scale, answer.difference, styles[answer.arm], digits),
            "p": "" if answer.difference.p is None else f"p {words.probability(answer.difference.adjusted)}",
        }
        for answer in mine
    ]
    basis, spread = basis_of(comparison), _spread(comparison)
    return {"key": comparison.key, "answers": shown, "basis": basis, "spread": spread}


def _arms_table(comparison: Comparison, styles: dict[str, int], judged: bool) -> dict:
    """A metric's table: its rows as text and small charts. `judged`: whether the answer has its verdicts, which alone are in colour."""
    measured = [row for row in comparison.rows if row.last]
    scale = _scale([row.last for row in measured], [x for row in measured for _, x in row.values], 210)
    digits = comparison.digits
    rows = [
        {
            "arm": row.arm,
            "seeds": len(row.values),
            "chart": charts.interval_chart(scale, row.last, row.values, styles[row.arm], digits) if row.last else "",
            "last": words.interval(row.last, digits) if row.last else "—",
            "step0": "—" if row.step0 is None else words.number(row.step0, digits),
            "gain": words.change(row.gain, digits) if row.gain else "—",
            "difference": words.change(row.difference, digits) if row.difference else "—",
            "effect": words.effect(effect_size(comparison, row)),
            "told_apart": judged and bool(row.difference and row.difference.told_apart),
        }
        for row in comparison.rows
    ]
    return {
        "key": comparison.key,
        "baseline": comparison.baseline,
        "rows": rows,
        "ruler": charts.ruler(scale) if scale else "",
        "compared": any(row.difference for row in comparison.rows),
        "basis": basis_of(comparison) if comparison.spread.known else why_no_interval(comparison),
        "spread": _spread(comparison),
    }


def _spread(comparison: Comparison) -> str:
    spread = comparison.spread
    freedom = f"{words.plural(spread.df, 'degree')} of freedom"
    return f"pooled standard deviation {spread.sd:.2g}, {freedom}" if spread.known else ""


def _scale(estimates: list, values: list[float], width: float) -> Axis | None:
    ends = [end for one in estimates for end in (one.value, one.low, one.high) if end is not None]
    return axis([*ends, *values], 14, width - 14, 3) if ends or values else None


def _chart_groups(study: Study, reading: Reading) -> list[dict]:
    """Charts under their headings: each probe task, measures without labels, the loss."""
    asked = {key: i for i, key in enumerate(study.metrics)}
    probes = [key for key in study.keys("probe/") if key in asked or not (of_null(key) or key.endswith(_UNCHARTED))]
    tasks = dict.fromkeys(
        key.split("/")[1] for key in sorted(probes, key=lambda key: (asked.get(key, len(asked)), key))
    )
    groups = {f"Probe: {words.name(task)}": [key for key in probes if key.split("/")[1] == task] for task in tasks}
    groups["Without labels, and the training loss"] = study.keys("unsupervised/", "train/loss")
    return [
        {
            "title": title,
            "charts": [_chart(study, key, reading) for key in sorted(keys, key=lambda k: asked.get(k, 99))],
        }
        for title, keys in groups.items()
        if keys
    ]


def _chart(study: Study, key: str, reading: Reading) -> dict:
    found = curves(study, key, reading.runs)
    digits = words.decimals(abs(value) for curve in found for line in curve.lines for value in line.y)
    last = [f"{curve.arm} {words.number(curve.mean.y[-1], digits)}" for curve in found if curve.mean]
    description = f"{words.full_title(key)} against patches seen. Last means: {'; '.join(last)}."
    svg = charts.line_chart(found, description, words.short_names(study.arms), digits)
    banded = charts.banded(found)
    return {"title": words.title(key), "context": words.context(key), "key": key, "svg": svg, "banded": banded}


def _commands(study: Study) -> list[dict]:
    """The different commands that made the runs, with the commits of the code that they ran."""
    commands: dict[tuple[str, str], list[str]] = {}
    for run in study.runs:
        environment = run.environment or {}
        if environment.get("command"):
            made = str(environment["command"]), str(environment.get("commit") or "")
            commands.setdefault(made, []).append(f"{run.arm}, seed {run.seed}")
    return [{"command": command, "commit": commit, "runs": runs} for (command, commit), runs in commands.items()]
