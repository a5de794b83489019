"""Learning curves: each seed's line and each arm's mean, thinned to what a chart can show."""

from dataclasses import dataclass

import numpy as np

from pathssl.report.study import Run, Series, Study

POINTS = 160  # a chart is 380 px wide: more points would not be seen


@dataclass(frozen=True)
class Line:
    """A line through (x, y); x in patches seen. `seed` is None for a mean."""

    x: np.ndarray
    y: np.ndarray
    seed: int | None = None


@dataclass(frozen=True)
class Curve:
    """One arm in a chart: `style` numbers its colour and marker; `averaged` seeds make the mean."""

    arm: str
    style: int
    seeds: list[Line]
    mean: Line | None
    averaged: int

    @property
    def lines(self) -> list[Line]:
        """All its lines."""
        return [*self.seeds, *([self.mean] if self.mean else [])]


def curves(study: Study, key: str, compared: list[Run]) -> list[Curve]:
    """A curve for each arm that has the metric.

    The mean is over the arm's `compared` runs (all its runs if none is), where all of them have a value.
    """
    series = [run.series[key] for run in study.runs if key in run.series]
    edges = _edges(series)
    found = []
    for style, arm in enumerate(study.arms):
        runs = [run for run in study.of(arm) if key in run.series]
        lines = {run.seed: thinned(run.series[key], edges) for run in runs}
        averaged = [lines[run.seed] for run in runs if run in compared] or list(lines.values())
        if lines:
            seeds = [Line(line.x, line.y, seed) for seed, line in lines.items()]
            found.append(Curve(arm, style, seeds, _mean(averaged, edges), len(averaged)))
    return found


def thinned(series: Series, edges: np.ndarray | None) -> Line:
    """The series, or its means in the bins between `edges` (means of x and of y)."""
    if edges is None:
        return Line(series.patches, series.values)
    bins = np.digitize(series.patches, edges)
    n = np.bincount(bins)
    filled = n > 0
    x, y = (np.bincount(bins, weights=values)[filled] / n[filled] for values in (series.patches, series.values))
    return Line(x, y)


def _edges(series: list[Series]) -> np.ndarray | None:
    """Inner edges of bins that all lines of a chart share; None where the points are few enough as they are."""
    if max((len(one.patches) for one in series), default=0) <= POINTS:
        return None
    low, high = min(one.patches[0] for one in series), max(one.patches[-1] for one in series)
    return np.linspace(low, high, POINTS + 1)[1:-1]


def _mean(lines: list[Line], edges: np.ndarray | None) -> Line | None:
    """The mean line where all lines have a point: at the same x, or in the same bin."""
    places = [line.x if edges is None else np.digitize(line.x, edges) for line in lines]
    shared = places[0]
    for place in places[1:]:
        shared = np.intersect1d(shared, place)
    if not len(shared):
        return None
    picked = [np.searchsorted(place, shared) for place in places]
    x = np.mean([line.x[i] for line, i in zip(lines, picked, strict=True)], axis=0)
    y = np.mean([line.y[i] for line, i in zip(lines, picked, strict=True)], axis=0)
    return Line(x, y)
