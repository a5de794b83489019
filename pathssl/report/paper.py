"""report.tex: the tables of the arms and of the runs, for a paper."""

from collections.abc import Mapping, Sequence

from pathssl.report import latex, words
from pathssl.report.comparison import Comparison, basis_of, why_no_interval
from pathssl.report.exports import EFFECT, arm_cells, marked
from pathssl.report.study import Study
from pathssl.report.unequal import Unequal


def arms_latex(study: Study, comparisons: Sequence[Comparison], unequal: Mapping[str, Unequal]) -> str:
    """One table for each metric, with the numbers of the page."""
    tables, shared = [], words.all_share(study.arms)
    for one in comparisons:
        head, rows = arm_cells(study, one)
        basis = f"Intervals: {basis_of(one)}." if one.spread.known else f"No intervals: {why_no_interval(one)}."
        said = [unequal[one.key].sentence] if one.key in unequal else []
        title = f"{words.full_title(one.key)}{marked(study, one.key)}: {one.key}."
        tables.append(latex.table(head, rows, 1, [title, f"{basis} {EFFECT}", *said, *filter(None, [shared])]))
    return "\n".join(tables)


def runs_latex(study: Study) -> str:
    """One table: where each run stands, and the study's metrics at its last checkpoint."""
    digits = {
        key: words.decimals(abs(x) for run in study.runs if key in run.series for x in run.series[key].values)
        for key in study.metrics
    }
    rows, names = [], words.distinct_names(study.arms)
    for run in study.runs:
        seen = run.probed[-1] if run.probed else None
        values = [run.series[key].at(seen) if key in run.series else None for key in study.metrics]
        numbers = [
            "—" if value is None else words.number(value, digits[key])
            for key, value in zip(study.metrics, values, strict=True)
        ]
        rows.append([names[run.arm], run.state, str(run.seed), "—" if seen is None else words.count(seen), *numbers])
    head = ["arm", "state", "seed", "patches seen", *map(words.full_title, study.metrics)]
    return latex.table(head, rows, 2, [f"The runs of {study.name}, each at its last checkpoint."])
