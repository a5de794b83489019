"""The arms in one metric as a figure for a paper or a README: each seed a dot, each arm's mean with its interval."""

import io
import logging
import textwrap
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from pathssl.files import write_atomic
from pathssl.report import words
from pathssl.report.comparison import Comparison, basis_of
from pathssl.report.study import Study, mark

_INK, _SOFT, _GRID, _BLUE = "#1d1a24", "#625c6e", "#e4dfe8", "#0072b2"
_WIDTH, _ROW, _REST = 6.5, 0.32, 1.15  # inches
_NAME = 34  # characters of a line of an arm's name
_BELOW = 0.27  # of a row: dots that lay on their own mean's bar would not be seen
# Text stays text, and the same numbers give the same file.
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "pathssl", "pdf.fonttype": 42, "font.size": 9}
_STYLE |= {"font.family": "sans-serif", "text.color": _INK, "axes.labelcolor": _INK, "ytick.color": _INK}
_STYLE |= {"xtick.color": _SOFT, "text.parse_math": False}  # an arm may be called $x$


def write_figure(folder: Path, study: Study, comparison: Comparison) -> list[Path]:
    """folder/figure.svg and figure.pdf."""
    logging.getLogger("fontTools.subset").setLevel(logging.WARNING)  # of the PDF's letters it tells one by one
    paths = []
    with matplotlib.rc_context(_STYLE):
        figure = arms_figure(study, comparison)
        for kind, undated in (("svg", {"Date": None}), ("pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=undated)
            paths.append(folder / f"figure.{kind}")
            write_atomic(paths[-1], buffer.getvalue())
    return paths


def arms_figure(study: Study, comparison: Comparison) -> Figure:
    """Arms from top to bottom as in the report; a vertical line at the baseline's mean, a hollow ring at each arm's step 0."""
    rows = [row for row in comparison.rows if row.last]
    names = words.distinct_names(study.arms)
    labels = [f"{_wrapped(names[row.arm])}{' *' if row.arm == comparison.baseline else ''}" for row in rows]
    lines = 1 + max((label.count("\n") for label in labels), default=0)
    figure = Figure((_WIDTH, _REST + _ROW * len(rows) * (0.55 + 0.45 * lines)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        base = row.arm == comparison.baseline
        if base:
            axes.axvline(row.last.value, color=_SOFT, linewidth=0.8, zorder=0)
        if row.last.low is not None:
            axes.plot([row.last.low, row.last.high], [place, place], color=_BLUE, linewidth=2, solid_capstyle="butt")
        values = [value for _, value in row.values]
        axes.plot(
            values, [place + _BELOW] * len(values), "o", color=_BLUE, markersize=3.5, alpha=0.6, markeredgewidth=0
        )
        axes.plot([row.last.value], [place], "D", color=_BLUE, markersize=6)
        if row.step0 is not None:
            axes.plot([row.step0], [place + _BELOW], "o", markerfacecolor="none", markeredgecolor=_SOFT, markersize=5)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"{words.title(comparison.key)} ({words.context(comparison.key)}){_marked(study, comparison.key)}")
    figure.text(0.01, 0.995, _legend(comparison), fontsize=7, color=_SOFT, va="top")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.2 / figure.get_figheight()))
    return figure


def _wrapped(name: str) -> str:
    """In lines that leave room for the numbers, broken behind a comma where there is one."""
    return "\n".join(textwrap.wrap(name.replace(",", ", "), _NAME)).replace(", ", ",")


def _marked(study: Study, key: str) -> str:
    marked = mark(study, key)
    return f" — {marked}" if marked else ""


def _legend(comparison: Comparison) -> str:
    bars = f", bars: {basis_of(comparison)}" if comparison.spread.known else ""
    return f"diamonds: means{bars}; dots: seeds; rings: step 0; *: baseline"
