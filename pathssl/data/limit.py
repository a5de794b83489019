"""Fewer slides to train on: nested subsets, so that arms with 1 %, 10 % and all of them differ in nothing else."""

import hashlib
from collections.abc import Sequence

from pathssl.errors import UserError


def limited(names: Sequence[str], limit: int | float | None, seed: int) -> list[int]:
    """The places in `names`, ascending, of so many of them (a whole number), or of this fraction (a broken one); None: of all.

    Names are ranked by a hash with the seed: a smaller subset lies in a greater one, and hardly moves when names are added.
    """
    if limit is None:
        return list(range(len(names)))
    whole = type(limit) is int
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0 or (not whole and limit > 1):
        raise UserError(
            f"data.limit.slides={limit} must be a whole number of slides, as in 100, or a fraction of them, as in 0.1 (1.0: all; 1: one "
            "slide), or null."
        )
    if whole and limit > len(names):
        raise UserError(f"data.limit.slides={limit}: there are only {len(names)} slides to train on.")
    count = limit if whole else max(1, round(limit * len(names)))
    ranked = sorted(range(len(names)), key=lambda k: hashlib.sha256(f"{seed}:{names[k]}".encode()).digest())
    return sorted(ranked[:count])
