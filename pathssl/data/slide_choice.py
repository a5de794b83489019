"""Which slide a patch is drawn from: evenly or by weight, among those that are scanned finely enough for its magnification."""

import numpy as np

from pathssl.errors import UserError
from pathssl.slides.slide import COARSER
from pathssl.slides.slide_index import SlideIndex

WEIGHTS = ("slide", "case", "tissue")
_JUST_BELOW_1 = 1 - 2.0**-20


class Evenly:
    """Each of the lists `usable` holds the slides for one of some magnifications; all slides of a list are as likely."""

    def __init__(self, usable: list[np.ndarray]):
        self._slides = np.concatenate(usable)
        self._count = np.array([len(slides) for slides in usable])
        self._start = np.cumsum(self._count) - self._count

    def draw(self, which: np.ndarray, _mpp: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(N,) slides for magnifications number `which`; u (N,) uniform in [0, 1)."""
        return self._slides[self._start[which] + (u * self._count[which]).astype(np.int64)]

    def probability(self, slides: np.ndarray, which: np.ndarray, _mpp: np.ndarray) -> np.ndarray:
        """(N,) of drawing these slides, which are fine enough, for magnifications number `which`."""
        return 1 / self._count[np.broadcast_to(which, slides.shape)]


class ByWeight:
    """Slides of groups, which are cases, or each slide by itself.

    A group is drawn first, by the mean weight of its slides, then one of its slides by weight; always among those fine enough.

    slides, mpp, group, weight: (K,) each; groups are numbered without gaps, weights are above 0.
    """

    def __init__(self, slides: np.ndarray, mpp: np.ndarray, group: np.ndarray, weight: np.ndarray):
        # Coarseness by rank: whole numbers compare exactly.
        self._mpp, rank = np.unique(mpp, return_inverse=True)
        finest = np.full(group.max() + 1, len(self._mpp))
        np.minimum.at(finest, group, rank)
        by_finest = np.argsort(finest, kind="stable")
        place = np.argsort(by_finest)[group]
        order = np.lexsort((rank, place))
        self._slides, self._finest = slides[order], finest[by_finest]
        self._stride = len(self._mpp) + 1
        self._key = (place * self._stride + rank)[order]
        mean = np.bincount(group, weight) / np.bincount(group)
        self._width, self._groups = mean[by_finest], np.concatenate([[0.0], np.cumsum(mean[by_finest])])
        self._weights = np.concatenate([[0.0], np.cumsum(weight[order])])
        self._place = np.argsort(self._slides)  # of each slide, by its number

    def draw(self, _which: np.ndarray, mpp: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(N,) slides for magnifications of `mpp`; u (N,) uniform in [0, 1)."""
        fine = np.searchsorted(self._mpp, COARSER * mpp, side="right")  # ranks below are fine enough
        target = u * self._groups[np.searchsorted(self._finest, fine)]
        group = np.searchsorted(self._groups, target, side="right") - 1
        within = np.minimum((target - self._groups[group]) / self._width[group], _JUST_BELOW_1)
        first, end = (np.searchsorted(self._key, group * self._stride + rank) for rank in (0, fine))
        begin, top = self._weights[first], self._weights[end]
        chosen = np.searchsorted(self._weights, begin + within * (top - begin), side="right") - 1
        return self._slides[np.clip(chosen, first, end - 1)]

    def probability(self, slides: np.ndarray, _which: np.ndarray, mpp: np.ndarray) -> np.ndarray:
        """(N,) of drawing these slides, which are fine enough, for magnifications of `mpp`."""
        at = self._place[np.searchsorted(self._slides, slides, sorter=self._place)]
        group, fine = self._key[at] // self._stride, np.searchsorted(self._mpp, COARSER * mpp, side="right")
        of_group = self._width[group] / self._groups[np.searchsorted(self._finest, fine)]
        first, end = (np.searchsorted(self._key, group * self._stride + rank) for rank in (0, fine))
        return of_group * (self._weights[at + 1] - self._weights[at]) / (self._weights[end] - self._weights[first])


def slide_choice(
    index: SlideIndex, slides: np.ndarray, usable: list[np.ndarray], by: str | None, continuous: bool
) -> Evenly | ByWeight:
    """Draws from `slides`, of which `usable` lists those for each magnification: with the manifest's weights, times what makes `by` alike:
    every "slide", every "case", or every mm2 of "tissue". None: evenly, whatever the manifest says.
    """
    if by not in (*WEIGHTS, None):
        raise UserError(f"data.weight_by={by} is not one of {', '.join(WEIGHTS)}.")
    weight = np.ones(len(slides)) if by is None else index.weight[slides]
    if by in ("slide", None) and not continuous and (weight == weight[0]).all():
        return Evenly(usable)
    if by == "tissue":
        weight = weight * index.tissue_mm2[slides]
    group = np.arange(len(slides))
    if by == "case":
        group = np.unique(np.asarray(index.case)[slides], return_inverse=True)[1]
    return ByWeight(slides, index.mpp[slides], group, weight)
