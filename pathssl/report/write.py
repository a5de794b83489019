"""The report's files: one self-contained HTML page, and the same numbers as CSV, Markdown, LaTeX and a figure."""

from collections.abc import Iterable
from pathlib import Path

from pathssl.files import write_atomic
from pathssl.report import exports
from pathssl.report.cases import case_sheets, cases_csv
from pathssl.report.compute import compute_csv, compute_sheets
from pathssl.report.figure import write_figure
from pathssl.report.findings import Findings, find
from pathssl.report.heatmap import heat_csv, heat_sheets
from pathssl.report.labelfree import LABEL_FREE, label_free_csv, label_free_sheets
from pathssl.report.page import page
from pathssl.report.paper import arms_latex, runs_latex
from pathssl.report.pareto import pareto_csv, pareto_sheets
from pathssl.report.peak import peak_csv, peak_sheets
from pathssl.report.published import published_csv, published_latex, published_markdown
from pathssl.report.sheets import Sheet, markdown, tables_latex
from pathssl.report.study import read_study
from pathssl.report.tasks import tasks_markdown


def write_report(folder: Path) -> Path:
    """The path of <folder>/report/index.html, written with all other files beside it.

    `folder` is a study's (outputs/<study>), an arm's or a run's; runs may still be going on. What has nothing to say has no file, and one
    that an earlier report left is removed.
    """
    found = find(read_study(folder))
    target = found.study.folder / "report"
    sheets = _sheets(found)
    files = {
        **{f"{name}.csv": text for name, text in _csv(found).items()},
        **{f"{name}.tex": tables_latex(of) for name, (_, of) in sheets.items()},
        "published.tex": published_latex(found.published),
        "published.md": published_markdown(found.published),
        "report.md": _markdown(found) + "".join(markdown(title, of) for title, of in sheets.values()),
        "report.tex": _latex(found, sheets),
    }
    said = {name: text for name, text in files.items() if text}
    for name, text in {**said, "index.html": page(found, _by_table(said))}.items():
        write_atomic(target / name, text)
    empty = files.keys() - said.keys()
    for name in empty if found.comparisons else [*empty, "figure.svg", "figure.pdf"]:
        (target / name).unlink(missing_ok=True)
    if found.comparisons:
        write_figure(target, found.study, found.comparisons[0])
    return target / "index.html"


def _by_table(names: Iterable[str]) -> list[str]:
    """The names in order, those of one table beside one another."""
    tables = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return sorted(names, key=lambda name: tables.index(name.partition(".")[0]))


def _csv(found: Findings) -> dict[str, str]:
    study = found.study
    return {
        "arms": exports.arms_csv(study, found.comparisons, found.unequal),
        "runs": exports.runs_csv(study),
        "coverage": exports.coverage_csv(found.slides),
        "faults": exports.faults_csv(found.slides),
        "nulls": exports.nulls_csv(study, found.nulls),
        "cases": cases_csv(study, found.cases),
        "compute": compute_csv(study, found.compute),
        "pareto": pareto_csv(study, found.pareto),
        "peak": peak_csv(study, found.peak),
        "labelfree": label_free_csv(found.labelfree),
        "heatmap": heat_csv(study, found.heatmap),
        "published": published_csv(found.published),
        "tasks": exports.csv_text(found.tasks),
    }


def _sheets(found: Findings) -> dict[str, tuple[str, list[Sheet]]]:
    """By the name of its files: a section's heading, and its tables."""
    study = found.study
    return {
        "compute": ("Equal compute", compute_sheets(study, found.compute)),
        "pareto": ("Quality against cost", pareto_sheets(study, found.pareto)),
        "peak": ("Peak and final checkpoint", peak_sheets(study, found.peak)),
        "heatmap": ("Every task at once", heat_sheets(study, found.heatmap)),
        "cases": ("Other seeds, other patients", case_sheets(study, found.cases)),
        "labelfree": (LABEL_FREE, label_free_sheets(study, found.labelfree)),
    }


def _markdown(found: Findings) -> str:
    text = exports.markdown(
        found.study,
        found.reading,
        found.comparisons,
        found.answers,
        found.unequal,
        found.gain,
        found.slides,
        found.nulls,
    )
    return text + published_markdown(found.published) + tasks_markdown(found.tasks)


def _latex(found: Findings, sheets: dict[str, tuple[str, list[Sheet]]]) -> str:
    """All tables in one file."""
    tables = [
        arms_latex(found.study, found.comparisons, found.unequal),
        runs_latex(found.study),
        published_latex(found.published),
    ]
    return "\n".join(filter(None, [*tables, *(tables_latex(of) for _, of in sheets.values())]))
