"""What training did to the study's first metric, and whether anything was learned at all."""

from collections.abc import Sequence

import numpy as np

from pathssl import metric_keys
from pathssl.report import words
from pathssl.report.comparison import Comparison, Reading
from pathssl.report.nulls import NullTable
from pathssl.report.study import Study

_RANDOM = words.name("random_weights")


def gain_sentence(comparison: Comparison) -> str | None:
    """What training did over each run's own step 0, over all runs; None where step 0 was not probed."""
    gains, digits = comparison.gains, comparison.digits
    if not gains:
        return None
    name = words.full_title(comparison.key)
    if len(gains) == 1:
        return f"Training moved {name} by {words.signed(gains[0], digits)} from its value at step 0."
    below = sum(gain < 0 for gain in gains)
    negative = f"{below} of them fell below" if below else "none fell below"
    return (
        f"Training moved {name} by {words.signed(float(np.mean(gains)), digits)} on average over {len(gains)} runs "
        f"(from {words.signed(min(gains), digits)} to {words.signed(max(gains), digits)}; {negative} their own step 0)."
    )


def unlearned(
    study: Study, reading: Reading, comparisons: Sequence[Comparison], nulls: Sequence[NullTable]
) -> list[str]:
    """Warnings of a study that learned nothing, whose differences between arms mean little; [] where it did, or is read at step 0.

    One where the primary metric got no better on average, or worse in most runs; one where no arm beats random weights in it.
    """
    first = [one for one in comparisons if one.key == study.primary]
    tables = [table for table in nulls if table.key == study.primary]
    if any(one.trained for one in first) and not any(reading.patches):
        return []
    said = [*map(_no_gain, first), *(_not_above_random(study, table) for table in tables)]
    return [sentence for sentence in said if sentence]


def _no_gain(comparison: Comparison) -> str | None:
    sign = 1 if metric_keys.higher_is_better(comparison.key) else -1
    better = [sign * gain for gain in comparison.gains]
    if not better:
        return None
    if float(np.mean(better)) <= 0:
        lead = "On average, training did not help."
    elif sum(gain < 0 for gain in better) > len(better) / 2:
        lead = "Most runs ended worse than they began."
    else:
        return None
    return f"{lead} {gain_sentence(comparison)}"


def _not_above_random(study: Study, table: NullTable) -> str | None:
    """Only what is drawn over cases has nulls: of all of it, higher is better."""
    found = {row.arm: row.differences[_RANDOM] for row in table.rows if _RANDOM in row.differences}
    if not found or any((one.value if one.low is None else one.low) > 0 for one in found.values()):
        return None
    best = max(found, key=lambda arm: found[arm].value)
    digits = words.decimals(row.value.value for row in table.rows)
    basis = "in the mean, without an interval" if found[best].low is None else f"over {table.unit}s"
    return (
        f"No arm beats {_RANDOM} in {words.full_title(table.key)}: at best {words.change(found[best], digits)} "
        f"({words.distinct_names(study.arms)[best]}), {basis}."
    )


def unsaid(gain: str | None, warnings: Sequence[str]) -> str | None:
    """`gain`, unless a warning holds it."""
    return None if gain and any(gain in warning for warning in warnings) else gain
