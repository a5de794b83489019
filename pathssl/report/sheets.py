"""A table of plain texts, as Markdown and LaTeX have it: what a section of the page says, once for both."""

from collections.abc import Sequence
from dataclasses import dataclass

from pathssl.report import latex
from pathssl.report.exports import plain


@dataclass(frozen=True)
class Sheet:
    """The first `texts` columns are flush left. `notes` are sentences; a sheet without rows is its notes alone."""

    title: str
    head: list[str]
    rows: list[list[str]]
    texts: int
    notes: list[str]


def markdown(heading: str, sheets: Sequence[Sheet]) -> str:
    """A section for the report's Markdown; empty without sheets."""
    lines = [f"## {heading}", ""] if sheets else []
    for sheet in sheets:
        lines += [f"### {plain(sheet.title)}", ""]
        if sheet.rows:
            lines += [_pipes(sheet.head), f"|{'---|' * sheet.texts}{'---:|' * (len(sheet.head) - sheet.texts)}"]
            lines += [*map(_pipes, sheet.rows), ""]
        lines += [*(f"- {plain(note)}" for note in sheet.notes), ""]
    return "\n".join([*lines, ""]) if lines else ""


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(plain, cells))} |"


def tables_latex(sheets: Sequence[Sheet]) -> str:
    """A tabular for each sheet that has rows, its notes as comments."""
    tables = [
        latex.table(sheet.head, sheet.rows, sheet.texts, [sheet.title, *sheet.notes]) for sheet in sheets if sheet.rows
    ]
    return "\n".join(tables)
