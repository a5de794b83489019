"""How often the report's verdicts and intervals are right, over studies whose truth is known; figures in simulated_studies.json.

    python benchmarks/simulated_studies.py > benchmarks/simulated_studies.json

Values of seeds are normal, with the same standard deviation in all arms; the verdicts are scale-free, so that its size does not matter.
"""

import json
from collections.abc import Iterator

import numpy as np

from pathssl.environment import describe_environment
from pathssl.report.statistics import ALPHA, Estimate, detectable, difference, family, mean, pooled_spread

STUDIES = 2000
LEVEL = 0.95
TRUE_MEAN, TRUE_SD = 0.7, 0.012  # of balanced accuracy; the sd of the study experiments/demo.yaml
SIZES = [(arms, seeds) for arms in (2, 5) for seeds in (3, 5, 10)]


def studies(arms: int, seeds: int, effect: float = 0.0, seed: int = 0) -> Iterator[np.ndarray]:
    """STUDIES of (arms, seeds) values; arm 0 is the baseline, and arm 1 is better by `effect` in truth."""
    values = np.random.default_rng([seed, arms, seeds]).normal(TRUE_MEAN, TRUE_SD, (STUDIES, arms, seeds))
    values[:, 1] += effect
    yield from values


def against_baseline(study: np.ndarray) -> list[Estimate]:
    """The differences of all arms to arm 0, as the report makes them."""
    spread = pooled_spread(dict(enumerate(study)))
    return family([difference(arm, study[0], spread, LEVEL) for arm in study[1:]])


def false_families(arms: int, seeds: int) -> float:
    """Share of studies without any effect in which a difference is declared."""
    return float(np.mean([any(one.told_apart for one in against_baseline(study)) for study in studies(arms, seeds)]))


def minimum_detectable(arms: int, seeds: int) -> float:
    """The effect that such a study declares as found with 80 % power."""
    return detectable(2 / seeds, arms * (seeds - 1), ALPHA / (arms - 1)) * TRUE_SD


def found(arms: int, seeds: int) -> float:
    """Share of studies in which an effect of the minimum detectable size is declared."""
    planted = studies(arms, seeds, minimum_detectable(arms, seeds), seed=1)
    return float(np.mean([against_baseline(study)[0].told_apart for study in planted]))


def coverage(arms: int, seeds: int) -> dict[str, float]:
    """Shares of all 95 % intervals, of arms' means and of their differences to arm 0, that hold the truth."""
    means, differences = [], []
    for study in studies(arms, seeds, seed=2):
        spread = pooled_spread(dict(enumerate(study)))
        means += [mean(arm, spread, LEVEL) for arm in study]
        differences += [difference(arm, study[0], spread, LEVEL) for arm in study[1:]]
    return {
        "mean": float(np.mean([one.low <= TRUE_MEAN <= one.high for one in means])),
        "difference": float(np.mean([one.low <= 0 <= one.high for one in differences])),
    }


if __name__ == "__main__":
    rows = [
        {
            "arms": arms,
            "seeds": seeds,
            "families with a false finding": false_families(arms, seeds),
            "minimum detectable, in sd": minimum_detectable(arms, seeds) / TRUE_SD,
            "found at that size": found(arms, seeds),
            "intervals that hold the truth": coverage(arms, seeds),
        }
        for arms, seeds in SIZES
    ]
    print(json.dumps({"studies": STUDIES, "commit": describe_environment()["commit"], "rows": rows}, indent=1))
