"""What choosing by a measure would have cost: the checkpoint of each run, and the arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from pathssl import metric_keys
from pathssl.report.comparison import LEVEL, Reading
from pathssl.report.statistics import Estimate, difference, mean, pooled_spread
from pathssl.report.study import Run

LEAST_RUNS, LEAST_CHECKPOINTS = 4, 3


@dataclass(frozen=True)
class Stopping:
    """Choosing each run's checkpoint by `by`. Costs are in `key` and positive where the choice was the worse one: against the run's
    last checkpoint, and against the one that its validation split chooses (None where there is no such split).

    costs: {run: the same of each run}; other: of how many runs it chose another checkpoint than the last.
    """

    by: str
    key: str
    last: Estimate
    validated: Estimate | None
    costs: dict[tuple[str, int], tuple[float, float | None]]
    other: int


@dataclass(frozen=True)
class ArmChoice:
    """The arm that is best by the mean of `by` at the last checkpoint, beside the one that validation chooses. `cost` as above, None where
    it is the same arm."""

    by: str
    key: str
    arm: str
    validated: str
    cost: Estimate | None


def checkpoints(run: Run, patches: float, keys: Sequence[str]) -> np.ndarray:
    """Patches seen, (n,), at the checkpoints that may be chosen: those after step 0 and up to there that have all these metrics.

    Step 0 is no choice, as all arms with one beginning would share it; a run that does not train has nothing else.
    """
    if not all(key in run.series for key in keys):
        return np.empty(0)
    common = reduce(np.intersect1d, [run.series[key].patches for key in keys])
    return np.unique(common[((common > 0) | run.untrained) & (common <= patches)])


def shared(run: Run, patches: float, keys: Sequence[str]) -> list[np.ndarray] | None:
    """The values of these metrics, each (n,), at those checkpoints; None where a metric is missing, or the run does not train."""
    if run.untrained or not all(key in run.series for key in keys):
        return None
    seen = checkpoints(run, patches, keys)
    return [np.array([run.series[key].at(at) for at in seen]) for key in keys]


def stopping(reading: Reading, by: str, key: str) -> Stopping | None:
    """None of fewer than LEAST_RUNS runs with LEAST_CHECKPOINTS trained checkpoints."""
    val = metric_keys.validation_of(key)
    costs, other = {}, 0
    for run, patches in zip(reading.runs, reading.patches, strict=True):
        found = shared(run, patches, [by, key])
        if found is None or len(found[0]) < LEAST_CHECKPOINTS:
            continue
        chosen = best(by, found[0])
        other += chosen < len(found[0]) - 1
        validated = shared(run, patches, [by, key, val]) if val else None
        by_val = None
        if validated is not None and len(validated[0]) >= LEAST_CHECKPOINTS:
            measure, values, on_val = validated
            by_val = _loss(key, values[best(val, on_val)], values[best(by, measure)])
        costs[run.arm, run.seed] = _loss(key, found[1][-1], found[1][chosen]), by_val
    if len(costs) < LEAST_RUNS:
        return None
    last = _mean({run: cost for run, (cost, _) in costs.items()})
    known = {run: cost for run, (_, cost) in costs.items() if cost is not None}
    return Stopping(by, key, last, _mean(known) if len(known) >= LEAST_RUNS else None, costs, other)


def best(key: str, values: Sequence[float]) -> int:
    """Which is the best, and the first of equals."""
    return int(np.argmax(values) if metric_keys.higher_is_better(key) else np.argmin(values))


def _loss(key: str, other: float, chosen: float) -> float:
    return float(other - chosen if metric_keys.higher_is_better(key) else chosen - other)


def _mean(costs: Mapping[tuple[str, int], float]) -> Estimate:
    """Over all runs, with Student's t and the variance between the runs of one arm, pooled over arms."""
    arms: dict[str, list[float]] = {}
    for (arm, _), cost in costs.items():
        arms.setdefault(arm, []).append(cost)
    return mean(list(costs.values()), pooled_spread(arms), LEVEL)


def arm_choice(reading: Reading, by: str, key: str) -> ArmChoice | None:
    """None with fewer than two trained arms, fewer than LEAST_RUNS runs, or without a validation split to compare with."""
    val = metric_keys.validation_of(key)
    found = {name: _last(reading, name) for name in (by, key, val) if name}
    arms = [arm for arm in found[by] if all(arm in of for of in found.values())]
    if val is None or len(arms) < 2 or sum(len(found[key][arm]) for arm in arms) < LEAST_RUNS:
        return None
    chosen, validated = (arms[best(name, [float(np.mean(found[name][arm])) for arm in arms])] for name in (by, val))
    cost = None
    if chosen != validated:
        x, y = found[key][validated], found[key][chosen]
        pair = (x, y) if metric_keys.higher_is_better(key) else (y, x)
        cost = difference(*pair, pooled_spread(found[key]), LEVEL)
    return ArmChoice(by, key, chosen, validated, cost)


def _last(reading: Reading, key: str) -> dict[str, list[float]]:
    """{arm: its runs' values where they are read}, of runs that are trained."""
    found: dict[str, list[float]] = {}
    for run, patches in zip(reading.runs, reading.patches, strict=True):
        value = run.series[key].at(patches) if key in run.series and not run.untrained else None
        if value is not None:
            found.setdefault(run.arm, []).append(value)
    return found
