"""Published figures beside a study's own, where its tasks have any: shown, and never part of a statistic."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pathssl import metric_keys, probe_records
from pathssl.report import latex, words
from pathssl.report.comparison import Reading
from pathssl.report.deviations import deviations
from pathssl.report.exports import csv_text, plain
from pathssl.report.study import Study, leaked

_FIGURES = Path(__file__).with_name("published_table1.yaml")
_FIRST = ("eva_2024", "eva", "linear")  # protocols, in the order of rows; others are shown where there is none of these
_OF_MASKS = ("seg_conv", "seg_linear")
BEST, OTHER, LEAKED, UNLIKE, UNKNOWN = "*", "†", "‡", "§", "?"


@dataclass(frozen=True)
class Figure:
    """`sd` over runs of the probe, None where there is one. `marks`: of BEST, OTHER, LEAKED, UNLIKE and UNKNOWN, those that hold.

    unlike: in what ours was not made as the published ones.
    """

    value: float
    sd: float | None
    marks: str
    unlike: tuple[str, ...] = ()

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {words.number(self.sd, 3)}"
        return f"{words.number(self.value, 3)}{spread}{self.marks}"


@dataclass(frozen=True)
class Line:
    """One row: a published model (`arm` None), or an arm by a protocol. `figures`, and for ours `seeds`, by the columns' keys."""

    name: str
    arm: str | None
    protocol: str
    figures: dict[str, Figure]
    seeds: dict[str, int]


@dataclass(frozen=True)
class Beside:
    """`columns` {key: name}; `lines`: each published model before ours of that model, then our other arms. `notes`: what the marks
    mean, and what else to know.
    """

    source: str
    protocol: str
    columns: dict[str, str]
    lines: list[Line]
    notes: list[str]


def published_beside(study: Study, reading: Reading) -> Beside | None:
    """Of the columns that the study has numbers for; None where there is none."""
    known = yaml.safe_load(_FIGURES.read_text())
    measured = {key.split("/")[1] for key in study.keys("probe/")}
    tasks = [_task(key) for key in known["columns"]]
    columns = {
        key: of | {"alone": tasks.count(_task(key)) == 1}
        for key, of in known["columns"].items()
        if _task(key) in measured
    }
    if not columns:
        return None
    ours = list(_ours(study, reading, columns))
    row_of = {run.arm: (run.config.get("report") or {}).get("row") for run in study.runs}
    lines = []
    for name, figures in known["rows"].items():
        lines.append(_published(name, figures, columns))
        lines += [line for line in ours if row_of[line.arm] == name]
    lines += [line for line in ours if row_of[line.arm] not in known["rows"]]
    names = {key: of["name"] for key, of in columns.items()}
    notes = [
        *_notes(columns, lines),
        *_models(reading, [line.arm for line in ours if row_of[line.arm] in known["rows"]]),
    ]
    return Beside(known["source"], " ".join(known["protocol"].split()), names, lines, notes)


def _task(column: str) -> str:
    return column.rpartition("_")[0]


def _published(name: str, figures: Mapping[str, list[float]], columns: Mapping[str, Any]) -> Line:
    found = {
        key: Figure(figures[key][0], *figures[key][1:] or [None], marks=_published_marks(of))
        for key, of in columns.items()
        if key in figures
    }
    return Line(name, None, "published", found, {})


def _published_marks(of: Mapping[str, Any]) -> str:
    return (UNKNOWN if of["best"] is None else BEST * of["best"]) + LEAKED * of.get("trained_on", False)


def _ours(study: Study, reading: Reading, columns: Mapping[str, Any]) -> Iterator[Line]:
    """The arms' rows: one for each protocol, of which the first has the figures of masks too."""
    names = words.distinct_names(study.arms)
    for arm in study.arms:
        runs = [(run, at) for run, at in zip(reading.runs, reading.patches, strict=True) if run.arm == arm]
        for place, protocol in enumerate(_protocols(study, columns)):
            used, figures, seeds = [protocol], {}, {}
            for key, of in columns.items():
                masks = of.get("metric") == "dice"
                chosen = next((one for one in _OF_MASKS if _has(study, key, one)), None) if masks else protocol
                if chosen is None or (masks and place):
                    continue
                found, n = _figure(study, arm, runs, key, chosen, of)
                if found is not None:
                    figures[key], seeds[key] = found, n
                    used = list(dict.fromkeys([*used, chosen]))
            if figures:
                yield Line(names[arm], arm, ", ".join(used), figures, seeds)


def _protocols(study: Study, columns: Mapping[str, Any]) -> list[str]:
    """Those of classification that the columns' tasks have, the published one first."""
    tasks = {_task(key) for key, of in columns.items() if of.get("metric") != "dice"}
    there = {
        key.split("/")[2]
        for key in study.keys("probe/")
        if key.split("/")[1] in tasks and key.endswith("/balanced_accuracy") and not metric_keys.of_null(key)
    }
    there = {protocol for protocol in there if not protocol.startswith("few_shot")}
    return [one for one in _FIRST if one in there] or sorted(there) or ["masks"]


def _has(study: Study, column: str, protocol: str) -> bool:
    return bool(study.keys(f"probe/{_task(column)}/{protocol}/"))


def _figure(
    study: Study, arm: str, runs: list, column: str, protocol: str, of: Mapping[str, Any]
) -> tuple[Figure | None, int]:
    """The mean over an arm's seeds; its sd is over the probe's own runs, as the published ones are, pooled over the seeds.

    A task that has a test split where the published figure is on validation holds those images as its test: see its `scored`.
    """
    task, metric = _task(column), of.get("metric", "balanced_accuracy")
    split = of["split"] or "val"
    if of["alone"] and study.keys(f"probe/{task}/{protocol}/test/"):
        split = "test"
    key = f"probe/{task}/{protocol}/{split}/{metric}"
    values, variances, unlike = [], [], {}
    for run, patches in runs:
        series = run.series.get(key)
        value = series.at(patches) if series else None
        if value is None:
            continue
        values.append(value)
        unlike |= dict.fromkeys(deviations(run, patches, task, protocol, of))
        of_probe = probe_records.read_own_runs(run.folder, patches, key)
        if of_probe is not None and len(of_probe) > 1:
            variances.append(float(np.var(of_probe, ddof=1)))
    if not values:
        return None, 0
    marks = BEST * (split == "val") + OTHER * (of["split"] not in (None, split))
    marks += LEAKED * leaked(study, key, arm) + UNLIKE * bool(unlike)
    sd = float(np.mean(variances) ** 0.5) if variances else None
    return Figure(float(np.mean(values)), sd, marks, tuple(unlike)), len(values)


def _notes(columns: Mapping[str, Any], lines: list[Line]) -> list[str]:
    seeds = {n for line in lines for n in line.seeds.values()}
    notes = [
        "± is the standard deviation over the probe's own runs on one set of weights, as in the published table: it says nothing of other "
        "trainings" + (", of which ours are means." if max(seeds, default=1) > 1 else ".")
    ]
    marks = {mark for line in lines for figure in line.figures.values() for mark in figure.marks}
    said = {
        BEST: "on the images by which the probe's state was chosen (a best validation figure), which flatters, here and there alike.",
        OTHER: "on the published images, while the probe's state was chosen on others: lower than the published protocol gives.",
        LEAKED: "tested on what was trained on.",
        UNKNOWN: "on which images, and by which the probe's state was chosen, is not published.",
    }
    notes += [f"{mark} {text}" for mark, text in said.items() if mark in marks]
    notes += [f"{UNLIKE} not made as the published: {_unlike(columns, lines)}."] if UNLIKE in marks else []
    return notes + [f"{of['name']}: {of['note']}." for of in columns.values() if "note" in of]


def _unlike(columns: Mapping[str, Any], lines: list[Line]) -> str:
    """Each reason with the columns that it is of, and the arms where these are not all of ours."""
    ours, found = [line for line in lines if line.arm is not None], {}
    for line in ours:
        for key, figure in line.figures.items():
            for reason in figure.unlike:
                names, arms = found.setdefault(reason, ({}, {}))
                names[columns[key]["name"]] = arms[line.name] = None
    every = {line.name for line in ours}
    where = {reason: "" if {*arms} == every else f" (in {', '.join(arms)})" for reason, (_, arms) in found.items()}
    return "; ".join(f"{', '.join(names)}: {reason}{where[reason]}" for reason, (names, _) in found.items())


def _models(reading: Reading, arms: list[str]) -> list[str]:
    """What stands below the published rows is not always the model that those are of: a sentence for each architecture."""
    said: dict[str, str] = {}
    for run, patches in zip(reading.runs, reading.patches, strict=True):
        if run.arm in arms:
            model = run.config["model"]
            args = ", ".join(f"{key} {value}" for key, value in (model.get("args") or {}).items() if key != "img_size")
            seen = f"after {words.count(patches)} patches" if patches else "as it begins, not trained further"
            said[run.arm] = f"{model['name']}{f' with {args}' if args else ''}, {seen}"
    names = words.distinct_names(list(said)) if said else {}
    return [f"{names[arm]} is timm's {what}." for arm, what in said.items()]


def published_csv(found: Beside | None) -> str:
    """One line for each row and column, in full precision."""
    lines = [
        {"row": line.name, "kind": "published" if line.arm is None else "ours", "protocol": line.protocol}
        | {"column": found.columns[key], "value": figure.value, "sd_over_probe_runs": figure.sd}
        | {
            "seeds": line.seeds.get(key),
            "best_validation": "not published" if UNKNOWN in figure.marks else BEST in figure.marks,
        }
        | {"other_choice": OTHER in figure.marks, "tested_on_training": LEAKED in figure.marks}
        | {"unlike_published": "; ".join(figure.unlike)}
        for line in (found.lines if found else [])
        for key, figure in line.figures.items()
    ]
    return csv_text(lines)


def published_markdown(found: Beside | None) -> str:
    """A section for the report's Markdown; empty where there is nothing."""
    if found is None:
        return ""
    rows = [f"| row | protocol | {' | '.join(found.columns.values())} |", f"|---|---|{'---:|' * len(found.columns)}"]
    for line in found.lines:
        cells = [plain(str(line.figures[key])) if key in line.figures else "—" for key in found.columns]
        rows.append(f"| {plain(line.name)} | {plain(line.protocol)} | {' | '.join(cells)} |")
    notes = [f"- {plain(note)}" for note in (f"Published: {found.source}. {found.protocol}", *found.notes)]
    return "\n".join(["## Beside what was published", "", *rows, "", *notes, "", ""])


def published_latex(found: Beside | None) -> str:
    """The table for a paper (booktabs); empty where there is nothing."""
    if found is None:
        return ""
    rows = []
    for line in found.lines:
        cells = [str(line.figures[key]) if key in line.figures else "--" for key in found.columns]
        rows.append([line.name, line.protocol, *cells])
    notes = [f"Published: {found.source}. {found.protocol}", *found.notes]
    return latex.table(["", "protocol", *found.columns.values()], rows, 2, notes)
