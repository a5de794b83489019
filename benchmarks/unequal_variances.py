"""What the report's verdicts and intervals are worth where one arm's seeds scatter more; figures in unequal_variances.json.

    python benchmarks/unequal_variances.py > benchmarks/unequal_variances.json

A study has METRICS metrics with normal noise and no difference in truth; in the first of them one arm may have a standard deviation WIDE
times that of the others. "named": the report names an arm, in any metric where all are alike, and else the right one.
"""

import json
from collections.abc import Iterator

import numpy as np
from scipy import stats

from pathssl.environment import describe_environment
from pathssl.report.statistics import (
    ALPHA,
    Estimate,
    detectable,
    difference,
    family,
    mean,
    pooled_spread,
    welch,
    widest,
)

STUDIES = 2000
LEVEL = 0.95
METRICS, SEEDS, WIDE = 4, 3, 5.0
SIZES = (2, 5, 9)
WIDE_ARMS = {"alike": None, "baseline": 0, "other arm": 1}  # by its place; arm 0 is the baseline


def studies(arms: int, wide: int | None, effect: float = 0.0) -> Iterator[np.ndarray]:
    """STUDIES of (metrics, arms, seeds) values, in standard deviations; arm 1 is better by `effect`."""
    values = np.random.default_rng([arms, 9 if wide is None else wide]).normal(size=(STUDIES, METRICS, arms, SEEDS))
    if wide is not None:
        values[:, 0, wide] *= WIDE
    values[:, 0, 1] += effect
    yield from values


def named(study: np.ndarray) -> set[tuple[int, int]]:
    """(metric, arm) of what the report speaks of."""
    found = [widest(dict(enumerate(metric))) for metric in study]
    return {(metric, one.arm) for metric, one in enumerate(found) if METRICS * one.p <= ALPHA}


def pooled(metric: np.ndarray) -> list[Estimate]:
    """The differences of a metric's arms to the baseline, as the verdicts are made."""
    spread = pooled_spread(dict(enumerate(metric)))
    return family([difference(arm, metric[0], spread, LEVEL) for arm in metric[1:]])


def unpooled(metric: np.ndarray) -> list[Estimate]:
    """The same by Welch's test."""
    return family([welch(arm, metric[0], LEVEL) for arm in metric[1:]])


def row(arms: int, wide: int | None) -> dict[str, float]:
    """Shares of studies without any difference."""
    false = {"pooled": [], "Welch": [], "Welch where named": []}
    hits, own, others = [], [], []
    for study in studies(arms, wide):
        found = named(study)
        hits.append(bool(found) if wide is None else (0, wide) in found)
        by_pooling, by_welch = (any(one.told_apart for one in test(study[0])) for test in (pooled, unpooled))
        false["pooled"].append(by_pooling)
        false["Welch"].append(by_welch)
        false["Welch where named"].append(by_welch if any(metric == 0 for metric, _ in found) else by_pooling)
        spread = pooled_spread(dict(enumerate(study[0])))
        for arm, values in enumerate(study[0]):
            one = mean(values, spread, LEVEL)
            (own if arm == wide else others).append(one.low <= 0 <= one.high)
    return {
        "named": np.mean(hits),
        "families with a false finding": {test: np.mean(shares) for test, shares in false.items()},
        "intervals that hold the truth": {"wide arm": np.mean(own) if own else None, "others": np.mean(others)},
    }


def found(arms: int) -> dict[str, float]:
    """Shares of studies with alike variances in which a difference is declared that pooling should find with 80 % power."""
    effect = detectable(2 / SEEDS, arms * (SEEDS - 1), ALPHA / (arms - 1))
    tests = {"pooled": pooled, "Welch": unpooled}
    planted = list(studies(arms, None, effect))
    return {name: np.mean([test(study[0])[0].told_apart for study in planted]) for name, test in tests.items()}


def of_variances(arms: int) -> dict[str, dict[str, float]]:
    """How often tests of equal variances at ALPHA find a difference in one metric: where there is none, where there is one, and none
    with noise of heavier tails (Student's t with 5 degrees of freedom)."""
    tests = {
        "Cochran": lambda metric: widest(dict(enumerate(metric))).p,
        "Bartlett": lambda metric: stats.bartlett(*metric).pvalue,
        "Levene": lambda metric: stats.levene(*metric, center="mean").pvalue,
        "Brown-Forsythe": lambda metric: stats.levene(*metric, center="median").pvalue,
    }
    random = np.random.default_rng([arms, SEEDS])
    one, half = (np.where(np.arange(arms)[:, None] < wide, WIDE, 1.0) for wide in (1, arms // 2))
    noise = random.normal(size=(STUDIES, arms, SEEDS))
    tails = random.standard_t(5, size=(STUDIES, arms, SEEDS))
    metrics = {"alike": noise, "one arm wide": noise * one, "half of the arms wide": noise * half, "heavy tails": tails}
    return {
        name: {kind: np.mean([p(metric) <= ALPHA for metric in values]) for kind, values in metrics.items()}
        for name, p in tests.items()
    }


if __name__ == "__main__":
    rows = [
        {"arms": arms, "wide": name, **row(arms, wide)}
        for arms in SIZES
        for name, wide in WIDE_ARMS.items()
        if (arms, wide) != (2, 1)  # of two arms it is the same as the baseline
    ]
    settings = {"studies": STUDIES, "metrics": METRICS, "seeds": SEEDS, "times as wide": WIDE}
    power = {arms: found(arms) for arms in SIZES}
    tests = {arms: of_variances(arms) for arms in SIZES if arms > 2}
    commit = describe_environment()["commit"]
    made = {"commit": commit, "rows": rows, "found where alike": power, "tests of equal variances": tests}
    print(json.dumps(settings | made, indent=1))
