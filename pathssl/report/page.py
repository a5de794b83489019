"""The report's files: one self-contained HTML page, CSV, Markdown and LaTeX."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pathssl.files import write_atomic
from pathssl.records import of_null
from pathssl.report import charts, exports, tables, words
from pathssl.report.cases import QUESTIONS, case_sheets, case_tables, case_views, cases_csv
from pathssl.report.comparison import (
    LEVEL,
    Comparison,
    Reading,
    Verdict,
    basis_of,
    choose_reading,
    compare_all,
    effect_size,
    gain_sentence,
    headline,
    reach,
    verdicts,
    why_no_interval,
)
from pathssl.report.compute import compute_csv, compute_sheets, equal_compute
from pathssl.report.coverage import Account, account
from pathssl.report.curves import curves
from pathssl.report.heatmap import heat_csv, heat_map, heat_sheets, heat_view
from pathssl.report.labelfree import LABEL_FREE, label_free, label_free_csv, label_free_sheets, label_free_view
from pathssl.report.leaks import MARK
from pathssl.report.nulls import NullTable, null_tables
from pathssl.report.over_cases import over_cases
from pathssl.report.paper import arms_latex, runs_latex
from pathssl.report.pareto import pareto, pareto_csv, pareto_sheets
from pathssl.report.peak import peak_csv, peak_sheets, peak_tables
from pathssl.report.pictures import KINDS, strips
from pathssl.report.published import published_beside, published_csv, published_latex, published_markdown
from pathssl.report.sheets import Sheet, markdown, tables_latex
from pathssl.report.study import Study, leaked, mark, read_study
from pathssl.report.tasks import task_rows, tasks_markdown
from pathssl.report.templates import render

_UNCHARTED = ("/f1", "/auroc")  # beside balanced accuracy, unless the study asks for them


def write_report(folder: Path) -> Path:
    """The path of <folder>/report/index.html, written with CSV files, report.md and report.tex beside it.

    `folder` is a study's (outputs/<study>), an arm's or a run's; runs may still be going on.
    """
    study = read_study(folder)
    reading = choose_reading(study)
    comparisons = compare_all(study, reading)
    answers = [answer for one in comparisons if one.key in study.family for answer in verdicts(one)]
    gain = gain_sentence(comparisons[0]) if comparisons else None
    slides = account(study, reading.runs)
    predicted = over_cases(study, reading)
    nulls = null_tables(study, predicted)
    target = study.folder / "report"
    write_atomic(target / "arms.csv", exports.arms_csv(study, comparisons))
    write_atomic(target / "runs.csv", exports.runs_csv(study))
    write_atomic(target / "coverage.csv", exports.coverage_csv(slides))
    write_atomic(target / "faults.csv", exports.faults_csv(slides))
    write_atomic(target / "nulls.csv", exports.nulls_csv(study, nulls))
    more = {"published": published_beside(study, reading), "tasks": task_rows(study)}
    more |= {"compute": equal_compute(study, reading, comparisons), "pareto": pareto(study, reading, comparisons)}
    more |= {"peak": peak_tables(study, reading, comparisons)}
    more |= {"cases": case_tables(study, predicted, comparisons), "labelfree": label_free(study, reading)}
    more |= {"heatmap": heat_map(study, reading, comparisons)}
    write_atomic(target / "published.csv", published_csv(more["published"]))
    write_atomic(target / "published.tex", published_latex(more["published"]))
    write_atomic(target / "published.md", published_markdown(more["published"]))
    write_atomic(target / "tasks.csv", exports.csv_text(more["tasks"]))
    sections = _sections(study, more)
    for name, (_, csv, sheets) in sections.items():
        write_atomic(target / f"{name}.csv", csv)
        write_atomic(target / f"{name}.tex", tables_latex(sheets))
    text = exports.markdown(study, reading, comparisons, answers, gain, slides, nulls)
    text += published_markdown(more["published"]) + tasks_markdown(more["tasks"])
    text += "".join(markdown(heading, sheets) for heading, _, sheets in sections.values())
    write_atomic(target / "report.md", text)
    tables_for_papers = [arms_latex(study, comparisons), runs_latex(study), published_latex(more["published"])]
    write_atomic(target / "report.tex", "\n".join(tables_for_papers))
    write_atomic(target / "index.html", _page(study, reading, comparisons, answers, gain, slides, nulls, more))
    return target / "index.html"


def _sections(study: Study, more: Mapping[str, Any]) -> dict[str, tuple[str, str, list[Sheet]]]:
    """By the name of its files, each section that has its own: its heading, its CSV, and its sheets for Markdown and LaTeX."""
    compute, fronts, peak, heat = more["compute"], more["pareto"], more["peak"], more["heatmap"]
    cases, labelfree = more["cases"], more["labelfree"]
    return {
        "compute": ("Equal compute", compute_csv(study, compute), compute_sheets(study, compute)),
        "pareto": ("Quality against cost", pareto_csv(study, fronts), pareto_sheets(study, fronts)),
        "peak": ("Peak and final checkpoint", peak_csv(study, peak), peak_sheets(study, peak)),
        "heatmap": ("Every task at once", heat_csv(study, heat), heat_sheets(study, heat)),
        "cases": ("Other seeds, other patients", cases_csv(study, cases), case_sheets(study, cases)),
        "labelfree": (LABEL_FREE, label_free_csv(labelfree), label_free_sheets(study, labelfree)),
    }


def _page(
    study: Study,
    reading: Reading,
    comparisons: list[Comparison],
    answers: list[Verdict],
    gain: str | None,
    slides: Account,
    nulls: list[NullTable],
    more: Mapping[str, Any],
) -> str:
    styles = {arm: style for style, arm in enumerate(study.arms)}
    shown, unseen = strips(study)
    views = {
        "heatmap": heat_view(more["heatmap"], study),
        "cases": case_views(more["cases"], styles),
        "labelfree": label_free_view(more["labelfree"], study, styles),
    }
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
        gain=gain,
        level=f"{100 * LEVEL:.0f} %",
        reach=reach(comparisons[0]) if comparisons else None,
        headline=headline(study, answers),
        names=words.distinct_names(study.arms),
        common=words.common_overrides(study.arms),
        effect=exports.EFFECT,
        comparisons=[_arms_table(comparison, styles) for comparison in comparisons],
        leaked=partial(leaked, study),
        some=partial(mark, study),
        mark=MARK,
        nulls=[(table, words.decimals(row.value.value for row in table.rows)) for table in nulls],
        groups=_chart_groups(study, reading),
        throughput=tables.throughput(study),
        kinds=KINDS,
        strips=shown,
        unseen=unseen,
        differences=tables.config_differences(study),
        data=tables.data_rows(study),
        slides=slides,
        runs=tables.run_rows(study),
        commands=_commands(study),
        case_questions=QUESTIONS,
        **(more | views),
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


def _arms_table(comparison: Comparison, styles: dict[str, int]) -> dict:
    """A metric's table: its rows as text and small charts."""
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
            "told_apart": bool(row.difference and row.difference.told_apart),
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


def _scale(estimates: list, values: list[float], width: float) -> charts.Axis | None:
    ends = [end for one in estimates for end in (one.value, one.low, one.high) if end is not None]
    return charts.axis([*ends, *values], 14, width - 14, 3) if ends or values else None


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
