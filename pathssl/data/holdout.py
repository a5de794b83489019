"""Which cases are never trained on."""

import hashlib
from collections.abc import Sequence

import numpy as np

from pathssl.errors import UserError


def held_out(case: Sequence[str], split: Sequence[str], serves: np.ndarray, fraction: float) -> np.ndarray:
    """(K,) bool for slides with these cases and splits ("train", "held_out" or "").

    Cases are held out whole: those that a split names or, where none does, `fraction` of those without a split, as far as they have a slide
    that `serves`.
    """
    named = {kind: {c for c, s in zip(case, split, strict=True) if s == kind} for kind in ("train", "held_out")}
    if both := sorted(named["train"] & named["held_out"]):
        raise UserError(
            f"The manifest gives slides of the case {both[0]} both splits, train and held_out"
            f"{f' (and those of {len(both) - 1} more cases)' if both[1:] else ''}: a case is held out whole. Give its slides one of them."
        )
    cases = named["held_out"] or held_out_cases(
        [c for c, usable in zip(case, serves, strict=True) if usable and c not in named["train"]], fraction
    )
    return np.array([c in cases for c in case], bool)


def held_out_cases(cases: list[str], fraction: float) -> set[str]:
    """`fraction` of the distinct cases, at least one where there are two; empty where there is only one.

    The choice follows from the names alone, so that it is the same for every seed and arm, and hardly moves when cases are added.
    """
    distinct = sorted(set(cases), key=lambda case: hashlib.sha256(case.encode()).digest())
    if fraction == 0 or len(distinct) < 2:
        return set()
    return set(distinct[: max(1, round(fraction * len(distinct)))])
