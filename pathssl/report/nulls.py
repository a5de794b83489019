"""The arms beside what has learned nothing, with intervals over cases from the stored predictions.

Axes: N samples, K classes, S draws of cases.
"""

from dataclasses import dataclass, replace

import numpy as np

from pathssl import records
from pathssl.metrics.bootstrap import balanced_accuracies, interval
from pathssl.metrics.classification import balanced_accuracy_of, confusion
from pathssl.report import words
from pathssl.report.comparison import LEVEL, Reading
from pathssl.report.statistics import Estimate
from pathssl.report.study import Study

_METRIC = "balanced_accuracy"


@dataclass(frozen=True)
class NullRow:
    """An arm at its last checkpoint, or a null; `arm` is None for nulls. differences: {null: arm minus null, over the same cases}."""

    name: str
    arm: str | None
    value: Estimate
    differences: dict[str, Estimate]


@dataclass(frozen=True)
class NullTable:
    """One task by one protocol. `n` of the estimates is the number of runs; their intervals are over `cases`."""

    key: str
    rows: list[NullRow]
    nulls: list[str]
    samples: int
    cases: int
    sentences: list[str]


@dataclass(frozen=True)
class _Scored:
    """What one run's stored predictions come to: the metric, and the metric in each draw of cases."""

    cases: frozenset[str]
    ids: tuple[str, ...]
    value: float
    values_S: np.ndarray


def null_tables(study: Study, reading: Reading) -> list[NullTable]:
    """One for each balanced accuracy that the study compares and has predictions for."""
    keys = [key for key in study.metrics if key.startswith("probe/") and key.endswith(f"/{_METRIC}")]
    return [table for key in keys if (table := _table(study, reading, key)) is not None]


def _table(study: Study, reading: Reading, key: str) -> NullTable | None:
    _, task, protocol, split, _ = key.split("/")
    arms: dict[str, list[_Scored]] = {}
    nulls: dict[str, list[_Scored]] = {}
    for run, patches in zip(reading.runs, reading.patches, strict=True):
        steps = {
            probe["patches_seen"]: probe["step"] for probe in records.read_probes(run.folder) if probe["task"] == task
        }
        found = _scored(run.folder, steps.get(patches), task, protocol, split)
        if found is not None:
            arms.setdefault(run.arm, []).append(found)
        if patches and _initialised(run.config) and (found := _scored(run.folder, steps.get(0), task, protocol, split)):
            nulls.setdefault("initialisation", []).append(found)
        for null in records.NULLS:
            found = _scored(run.folder, steps.get(0), task, f"{protocol}_{null}", split)
            if found is not None:
                nulls.setdefault(words.name(null), []).append(found)
    everything = [one for of in (*arms.values(), *nulls.values()) for one in of]
    if not arms or not nulls or len({one.ids for one in everything}) > 1:
        return None  # without nulls, or of different samples, there is nothing to compare
    rows = [_row(arm, arm, arms[arm], nulls) for arm in study.arms if arm in arms]
    rows += [_row(name, None, nulls[name], {}) for name in nulls]
    table = NullTable(key, rows, list(nulls), len(everything[0].ids), len(everything[0].cases), [])
    return replace(table, sentences=_sentences(table, words.distinct_names(study.arms)))


def _initialised(config: dict) -> bool:
    """Whether the run began from weights that had learned something; else its step 0 is random weights itself."""
    init = config.get("init") or {}
    return bool(init.get("pretrained") or init.get("path"))


def _scored(folder, step: int | None, task: str, protocol: str, split: str) -> _Scored | None:
    """None where there are no predictions of that protocol on that split."""
    if step is None or not records.has_predictions(folder, step, task):
        return None
    stored = records.read_predictions(folder, step, task)
    if f"{protocol}_scores" not in stored or str(stored["split"]) != split:
        return None
    labels, classes = stored["labels"], len(stored["classes"])
    predictions = stored[f"{protocol}_scores"].argmax(axis=1)
    groups = stored["groups"]
    return _Scored(
        cases=frozenset(groups.tolist()),
        ids=tuple(stored["ids"].tolist()),
        value=float(balanced_accuracy_of(confusion(labels, predictions, classes))),
        values_S=balanced_accuracies(labels, predictions, groups, classes),
    )


def _row(name: str, arm: str | None, runs: list[_Scored], nulls: dict[str, list[_Scored]]) -> NullRow:
    return NullRow(name, arm, _estimate(runs), {null: _estimate(runs, of) for null, of in nulls.items()})


def _estimate(runs: list[_Scored], minus: list[_Scored] | None = None) -> Estimate:
    """The mean over runs, minus that of others, with the interval of both over the same draws of cases."""
    value, values_S = _mean(runs)
    if minus:
        other, others_S = _mean(minus)
        value, values_S = value - other, values_S - others_S
    low, high = interval(values_S, LEVEL)
    return Estimate(value, low, high, len(runs))


def _mean(runs: list[_Scored]) -> tuple[float, np.ndarray]:
    return float(np.mean([run.value for run in runs])), np.mean([run.values_S for run in runs], axis=0)


def _sentences(table: NullTable, short: dict[str, str]) -> list[str]:
    """Which arms do not beat a null."""
    digits = words.decimals(row.value.value for row in table.rows)
    return [
        f"{short[row.arm]} does not beat {null} in {words.full_title(table.key)}: {words.change(found, digits)} over cases."
        for row in table.rows
        for null, found in row.differences.items()
        if found.low is not None and found.low <= 0
    ]
