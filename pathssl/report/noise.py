"""How much seeds alone move a study's metrics, and how many of them show a difference of a given size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pathssl import probe_records
from pathssl.errors import UserError
from pathssl.report import words
from pathssl.report.comparison import LEVEL, choose_reading, compare
from pathssl.report.statistics import ALPHA, POWER, Spread, detectable, sd_interval, seeds_needed, two_arms
from pathssl.report.study import Study, mark, read_study

SEEDS = (3, 5, 10)


@dataclass(frozen=True)
class Noise:
    """One metric. `spread`: between training seeds, pooled over arms, with `low` and `high` of its sd (None where it is not known).

    detectable: {seeds in each arm: difference shown with 80 % power}. needed: {difference: seeds in each arm, None above a thousand}.
    probe_sd: between a protocol's own runs on one encoder, where it has several.
    mark: says that the metric is of a task that was trained on in part, and in which arms; else empty.
    """

    key: str
    spread: Spread
    low: float | None
    high: float | None
    detectable: dict[int, float]
    needed: dict[float, int | None]
    probe_sd: float | None
    mark: str


def measure_noise(folder: Path, metrics: Sequence[str], differences: Sequence[float]) -> list[Noise]:
    """For each of `metrics` (none: those that the study compares)."""
    study = read_study(folder)
    measured = study.keys("probe/", "unsupervised/")
    unknown = [key for key in metrics if key not in measured]
    if unknown:
        raise UserError(
            f"{unknown[0]} was measured in no run of {folder}. Measured: {', '.join(measured) or 'nothing yet'}."
        )
    if not all(difference > 0 for difference in differences):
        raise UserError(f"--difference {min(differences)}: give sizes above 0, such as 0.01 for a point of accuracy.")
    reading = choose_reading(study)
    found = []
    for key in metrics or study.metrics:
        spread = compare(study, key, reading).spread
        low, high = sd_interval(spread, LEVEL) if spread.known else (None, None)
        shown = {n: detectable(*two_arms(n)) * spread.sd for n in SEEDS} if spread.known else {}
        needed = {size: seeds_needed(size / spread.sd) for size in differences} if spread.known else {}
        found.append(Noise(key, spread, low, high, shown, needed, _probe_sd(study, key), mark(study, key)))
    return found


def _probe_sd(study: Study, key: str) -> float | None:
    """Pooled over the last checkpoints of all runs."""
    if not key.startswith("probe/"):
        return None
    variances = []
    for run in study.runs:
        series = run.series.get(key)
        of_runs = probe_records.read_own_runs(run.folder, series.patches[-1], key) if series else None
        if of_runs is not None and len(of_runs) > 1:
            variances.append(np.var(of_runs, ddof=1))
    return float(np.mean(variances) ** 0.5) if variances else None


def noise_text(found: Sequence[Noise]) -> str:
    """The same, to be read."""
    lines = [
        f"Differences that two arms show with {100 * POWER:.0f} % power, by Student's two-sided t test at {100 * ALPHA:.0f} %:"
    ]
    for noise in found:
        lines.append(f"\n{noise.key}{f' ({noise.mark})' if noise.mark else ''}")
        if noise.low is None:
            why = "one seed in each arm" if noise.spread.df == 0 else "the seeds agree exactly"
            lines.append(f"  not known: {why}; give several, as in seed=0,1,2")
            continue
        of = words.plural(noise.spread.df, "degree")
        lines.append(
            f"  sd between seeds {noise.spread.sd:.2g} ({100 * LEVEL:.0f} %: {noise.low:.2g} to {noise.high:.2g}; {of} of freedom)"
            + (f"; between a protocol's own runs {noise.probe_sd:.2g}" if noise.probe_sd is not None else "")
        )
        shown = ", ".join(f"{size:.2g} with {n} seeds" for n, size in noise.detectable.items())
        lines.append(f"  shown: {shown}")
        needed = ", ".join(
            f"{size:g} needs {'over a thousand' if n is None else n} seeds" for size, n in noise.needed.items()
        )
        lines.append(f"  a difference of {needed} in each arm")
    return "\n".join(lines)
