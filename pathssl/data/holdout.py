"""Which cases are never trained on."""

import hashlib


def held_out_cases(cases: list[str], fraction: float) -> set[str]:
    """`fraction` of the distinct cases, at least one where there are two; empty where there is only one.

    The choice follows from the names alone, so that it is the same for every seed and arm, and hardly moves when cases are added.
    """
    distinct = sorted(set(cases), key=lambda case: hashlib.sha256(case.encode()).digest())
    if fraction == 0 or len(distinct) < 2:
        return set()
    return set(distinct[: max(1, round(fraction * len(distinct)))])
