"""Learning curves: each seed's line, each arm's mean and its interval, thinned to what a chart can show."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pathssl.report.comparison import LEVEL
from pathssl.report.statistics import mean, pooled_spread
from pathssl.report.study import Run, Series, Study

POINTS = 160  # a chart is 380 px wide: more points would not be seen


@dataclass(frozen=True)
class Line:
    """A line through (x, y); x in patches seen. `seed` is None for a mean."""

    x: np.ndarray
    y: np.ndarray
    seed: int | None = None


@dataclass(frozen=True)
class Band:
    """The interval of an arm's mean at each x; NaN where nothing measures the noise between seeds."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Curve:
    """One arm in a chart: `style` numbers its colour and marker; `averaged` seeds make the mean."""

    arm: str
    style: int
    seeds: list[Line]
    mean: Line | None
    averaged: int
    band: Band | None = None

    @property
    def lines(self) -> list[Line]:
        """All its lines."""
        return [*self.seeds, *([self.mean] if self.mean else [])]


def curves(study: Study, key: str, compared: list[Run]) -> list[Curve]:
    """A curve for each arm that has the metric.

    The mean and its band are over the arm's `compared` runs (all its runs if none is), where all of them have a value.
    """
    series = [run.series[key] for run in study.runs if key in run.series]
    edges = _edges(series)
    lines, shared = {}, {}
    for arm in study.arms:
        runs = [run for run in study.of(arm) if key in run.series]
        if runs:
            lines[arm] = {run.seed: thinned(run.series[key], edges) for run in runs}
            averaged = [lines[arm][run.seed] for run in runs if run in compared] or list(lines[arm].values())
            shared[arm] = _shared(averaged, edges)
    trained = {run.arm for run in study.runs if not run.untrained}
    bands = _bands({arm: of for arm, of in shared.items() if arm in trained})
    found = []
    for style, arm in enumerate(study.arms):
        if arm in lines:
            seeds = [Line(line.x, line.y, seed) for seed, line in lines[arm].items()]
            _, x, y = shared[arm]
            middle = Line(x, y.mean(axis=0)) if len(x) else None
            found.append(Curve(arm, style, seeds, middle, len(y), bands.get(arm)))
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


def _shared(lines: list[Line], edges: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places, x, y) where all lines have a point, at the same x or in the same bin: (n,), (n,) and (lines, n)."""
    places = [line.x if edges is None else np.digitize(line.x, edges) for line in lines]
    shared = places[0]
    for place in places[1:]:
        shared = np.intersect1d(shared, place)
    picked = [np.searchsorted(place, shared) for place in places]
    x = np.mean([line.x[i] for line, i in zip(lines, picked, strict=True)], axis=0)
    y = np.array([line.y[i] for line, i in zip(lines, picked, strict=True)])
    return shared, x, y


def _bands(shared: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, Band]:
    """Each trained arm's interval at each of its points alone, as `compare` has it of the last: the variance between seeds there is
    pooled over the arms that have the point.
    """
    values: dict[float, dict[str, np.ndarray]] = {}
    for arm, (places, _, y) in shared.items():
        for place, column in zip(places, y.T, strict=True):
            values.setdefault(place, {})[arm] = column
    spreads = {place: pooled_spread(of) for place, of in values.items()}
    bands = {}
    for arm, (places, x, _) in shared.items():
        found = [mean(values[place][arm], spreads[place], LEVEL) for place in places]
        if any(one.low is not None for one in found):
            bands[arm] = Band(x, *(np.array([getattr(one, end) for one in found], float) for end in ("low", "high")))
    return bands
