"""At which magnifications patches are drawn."""

import math

import numpy as np

from pathssl.errors import UserError

_DECIMALS = 4  # of a drawn mpp: libraries of mathematics differ in the last bits, and runs must not


class Magnification:
    """One of `mpp` by `weight`; or, `continuous`, anything between neighbours in `mpp`: log-uniform in each interval, drawn by its weight.

    mpp, end: (M,) um per pixel, the magnifications, or the finer and the coarser ends of the intervals.
    """

    def __init__(self, mpp: list[float], weight: list[float], continuous: bool):
        given = f"magnification has mpp={list(mpp)} and weight={list(weight)}"
        if type(continuous) is not bool:
            raise UserError(f"magnification.continuous={continuous} must be true or false.")
        if not all(_is_number(one) for one in (*mpp, *weight)):
            raise UserError(f"{given}: give numbers.")
        if len(mpp) != len(weight) + continuous or not mpp or min(mpp) <= 0 or not weight or not _sound(weight):
            each = "interval between neighbours in mpp" if continuous else "mpp"
            raise UserError(
                f"{given}: give one weight to each {each}, all mpp above 0, and at least one weight above 0."
            )
        if continuous and sorted(set(mpp)) != list(mpp):
            raise UserError(f"{given}: with magnification.continuous=true the mpp must ascend, as in [0.25, 0.5, 1.0].")
        self.continuous = continuous
        ends = np.asarray(mpp, np.float64)
        self.mpp, self.end = (ends[:-1], ends[1:]) if continuous else (ends, ends)
        self.weight = np.asarray(weight, np.float64)
        cumulative = np.cumsum(self.weight)
        self._cumulative = cumulative / cumulative[-1]  # exactly 1 from the last weight above 0 on
        self.drawn = np.asarray(weight) > 0

    def __len__(self) -> int:
        return len(self.mpp)

    def draw(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(which of the M, mpp), both (N,), for u (N,) uniform in [0, 1)."""
        which = np.searchsorted(self._cumulative, u, side="right")
        if not self.continuous:
            return which, self.mpp[which]
        begin = np.concatenate([[0.0], self._cumulative])
        within = (u - begin[which]) / (begin[which + 1] - begin[which])
        return which, self.between(self.mpp[which], self.end[which], within)

    def between(self, low: np.ndarray, high: np.ndarray, within: np.ndarray) -> np.ndarray:
        """(N,) log-uniform from low to high, for `within` (N,) uniform in [0, 1)."""
        return np.clip(np.round(low * np.exp(within * np.log(high / low)), _DECIMALS), low, high)

    def mean_square(self) -> np.ndarray:
        """(M,) the mean of mpp squared, by which patches grow in area."""
        if not self.continuous:
            return self.mpp**2
        return (self.end**2 - self.mpp**2) / (2 * np.log(self.end / self.mpp))

    def names(self) -> list[str]:
        """As people write them: 0.5, or 0.25 to 0.5."""
        return [
            f"{m:g}" if math.isclose(m, end) else f"{m:g} to {end:g}" for m, end in zip(self.mpp, self.end, strict=True)
        ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sound(weight: list[float]) -> bool:
    return min(weight) >= 0 and 0 < sum(weight) < math.inf
