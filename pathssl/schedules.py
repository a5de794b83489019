"""Schedules as pure functions of progress, the fraction of training done, in [0, 1]."""

import math


def cosine(start: float, end: float, progress: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def warmup_cosine(peak: float, end: float, warmup: float, progress: float) -> float:
    """Linear from 0 to `peak` during the fraction `warmup`, then a cosine to `end`."""
    if progress < warmup:
        return peak * progress / warmup
    return cosine(peak, end, (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0)


def linear(start: float, end: float, fraction: float, progress: float) -> float:
    """Linear from `start` to `end` during the first `fraction` of training, then `end`."""
    return end if progress >= fraction else start + (end - start) * progress / fraction


def steps_every(fraction: float, total_steps: int) -> set[int]:
    """Steps at distances of this fraction of training, with the first (0) and the last."""
    return {*range(0, total_steps, max(1, round(fraction * total_steps))), total_steps}
