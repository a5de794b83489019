"""Every probe task and protocol at once: each arm's difference to the baseline, in standard deviations between seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pathssl import metric_keys, records
from pathssl.report import words
from pathssl.report.comparison import UNTRAINED, Comparison, Reading, compare, why_no_interval
from pathssl.report.exports import csv_text
from pathssl.report.sheets import Sheet
from pathssl.report.study import Study, leaked, mark

_FIRST = ("balanced_accuracy", "dice")  # what stands for a protocol; where it has neither, the first of its metrics
FULL = 4.0  # standard deviations from which on a colour is as strong as it gets
STRENGTH = 50  # %: of the colour in the strongest cell; more, and its text is hard to read
VAL = "*"


@dataclass(frozen=True)
class Cell:
    """`value` is the arm's mean over seeds, `difference` that to the baseline, `effect` the same in standard deviations between seeds.

    None where it was not measured; `effect` also where that deviation is not known. better: the effect, positive where it is for the
    better.
    """

    value: float | None
    difference: float | None
    effect: float | None
    better: float | None


@dataclass(frozen=True)
class Column:
    """One task by one protocol. validation: whether the metric is on the images by which is chosen, as there is no test split."""

    key: str
    validation: bool
    digits: int
    cells: dict[str, Cell]


@dataclass(frozen=True)
class HeatMap:
    """`columns` hold a cell for each arm; `notes` are sentences."""

    baseline: str
    columns: list[Column]
    notes: list[str]


def main_keys(study: Study) -> list[str]:
    """The main metric of each task and protocol: on test, or on val where there is no test; tasks and protocols in order."""
    splits: dict[tuple[str, str], dict[str, list[str]]] = {}
    for key in study.keys("probe/"):
        if not metric_keys.of_null(key) and key.count("/") == 4:
            _, task, protocol, split, _ = key.split("/")
            splits.setdefault((task, protocol), {}).setdefault(split, []).append(key)
    found = []
    for by_split in splits.values():
        keys = by_split.get("test") or by_split.get("val") or []
        ordered = sorted(keys, key=lambda key: (_rank(key), records.natural(key)))
        found += ordered[:1]
    return found


def _rank(key: str) -> int:
    metric = key.rpartition("/")[2]
    return _FIRST.index(metric) if metric in _FIRST else len(_FIRST)


def heat_map(study: Study, reading: Reading, comparisons: Sequence[Comparison]) -> HeatMap | None:
    """None with fewer than two arms, or where nothing was probed."""
    known = {one.key: one for one in comparisons}
    found = [known.get(key) or compare(study, key, reading) for key in main_keys(study)]
    found = [one for one in found if any(row.difference for row in one.rows)]
    if not found:
        return None
    columns = [_column(one) for one in found]
    return HeatMap(study.baseline, columns, _notes(found, columns))


def _column(comparison: Comparison) -> Column:
    sign = 1 if metric_keys.higher_is_better(comparison.key) else -1
    cells = {}
    for row in comparison.rows:
        value = row.last.value if row.last else None
        difference = row.difference.value if row.difference else None
        known = row.difference is not None and row.difference.low is not None
        effect = difference / comparison.spread.sd if known else None
        cells[row.arm] = Cell(value, difference, effect, sign * effect if known else None)
    return Column(comparison.key, "/val/" in comparison.key, comparison.digits, cells)


def _notes(comparisons: Sequence[Comparison], columns: Sequence[Column]) -> list[str]:
    unknown = [one for one in comparisons if not any(cell.effect is not None for cell in _cells(columns, one.key))]
    notes = []
    if len(unknown) < len(comparisons):
        notes.append(
            "In each cell the difference to the baseline in pooled standard deviations between seeds, and below it the difference itself. "
            f"Blue is better than the baseline, orange worse, full colour from {FULL:g} on. No test was made here, and a colour is no "
            "verdict; with few seeds, such numbers are too large on average."
        )
    if unknown:
        why = dict.fromkeys(why_no_interval(one) if one.trained else UNTRAINED for one in unknown)
        where = "" if len(unknown) == len(comparisons) else f" in {', '.join(_title(one.key) for one in unknown)}"
        notes.append(
            f"Plain differences without colour{where}: {'; '.join(why)}, so nothing says how large a difference is."
        )
    if any(column.validation for column in columns):
        notes.append(
            f"{VAL} on validation, by which settings are chosen: there is no test split, and the value flatters."
        )
    lower = [_title(column.key) for column in columns if not metric_keys.higher_is_better(column.key)]
    return notes + ([f"Lower is better: {', '.join(lower)}."] if lower else [])


def _cells(columns: Sequence[Column], key: str) -> list[Cell]:
    return [cell for column in columns if column.key == key for cell in column.cells.values()]


def _title(key: str) -> str:
    _, task, protocol, _, metric = key.split("/")
    return f"{words.name(task)}, {words.name(protocol)}, {words.name(metric)}"


def heat_view(found: HeatMap | None, study: Study) -> dict[str, Any] | None:
    """What the page shows: the columns' heads, and rows of (arm, cells as text with their colour)."""
    if found is None:
        return None
    heads = [
        {
            "key": column.key,
            "task": words.name(column.key.split("/")[1]),
            "protocol": words.name(column.key.split("/")[2]),
        }
        | {"metric": words.name(column.key.rpartition("/")[2]), "val": VAL if column.validation else ""}
        for column in found.columns
    ]
    rows = [
        (arm, [_shown(column.cells[arm], column.digits, arm == found.baseline) for column in found.columns])
        for arm in study.arms
    ]
    scale = [_coloured(step) for step in (-4, -3, -2, -1, 0, 1, 2, 3, 4)]
    coloured = any(cell.effect is not None for column in found.columns for cell in column.cells.values())
    return {"found": found, "heads": heads, "rows": rows, "scale": scale if coloured else []}


def _shown(cell: Cell, digits: int, is_baseline: bool) -> dict[str, str]:
    """`main` and `below`, with the `side` and the `share` of the colour."""
    if is_baseline:
        return {
            "main": "—" if cell.value is None else words.number(cell.value, digits),
            "below": "",
            "side": "",
            "share": "0",
        }
    if cell.difference is None:
        return {"main": "—", "below": "", "side": "", "share": "0"}
    plain = words.signed(cell.difference, digits)
    if cell.effect is None:
        return {"main": plain, "below": "", "side": "", "share": "0"}
    colour = _coloured(cell.better)
    return {"main": words.signed(cell.effect, 1), "below": plain, "side": colour["side"], "share": colour["share"]}


def _coloured(better: float) -> dict[str, str]:
    share = STRENGTH * min(abs(better) / FULL, 1)
    side = "better" if better > 0 else "worse" if better < 0 else ""
    return {"side": side, "share": f"{share:.0f}", "text": words.signed(better, 0) if better else "0"}


def heat_csv(study: Study, found: HeatMap | None) -> str:
    """One line for each metric and arm, in full precision."""
    lines = [
        {
            "metric": column.key,
            "arm": arm,
            "baseline": found.baseline,
            "value": cell.value,
            "difference": cell.difference,
        }
        | {"difference_in_sd": cell.effect, "on_validation": column.validation}
        | {"tested_on_training": leaked(study, column.key, arm)}
        for column in (found.columns if found else [])
        for arm, cell in column.cells.items()
    ]
    return csv_text(lines)


def heat_sheets(study: Study, found: HeatMap | None) -> list[Sheet]:
    """The same for Markdown and LaTeX: a difference in standard deviations, and in brackets the difference itself."""
    if found is None:
        return []
    head, names = ["arm"], words.distinct_names(study.arms)
    for column in found.columns:
        marked = mark(study, column.key)
        head.append(f"{_title(column.key)}{VAL if column.validation else ''}{f' — {marked}' if marked else ''}")
    rows = []
    for arm in study.arms:
        cells = [_shown(column.cells[arm], column.digits, arm == found.baseline) for column in found.columns]
        rows.append(
            [names[arm], *(f"{cell['main']} ({cell['below']})" if cell["below"] else cell["main"] for cell in cells)]
        )
    return [
        Sheet(f"Differences to {names[found.baseline]}, whose own values stand in its row", head, rows, 1, found.notes)
    ]
