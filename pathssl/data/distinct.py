"""A limited number of distinct patches, drawn again and again: in total, or of each slide.

There is a pool of them, which follows from a seed of its own: its first 10 patches are among its first 100. Patch i of a run is a member of
the pool, with views of its own. A member that cannot be read, or that a filter turns down, is replaced by the next draw of the member's own
counter, hence by the same patch wherever it comes up.
"""

from dataclasses import dataclass

import numpy as np

from pathssl.data.attempts import SLIDES, TRIES, blocks, more
from pathssl.data.frame import Frame
from pathssl.data.places import Places
from pathssl.errors import UserError

PER = ("slide", "total")
_PURPOSE = "distinct"
_REDRAWS = 8  # of a member of a slide's pool; then another slide is drawn, as this one may be broken


@dataclass(frozen=True)
class Distinct:
    """patches: how many there are, `per` slide or in total; None: no limit. seed: of the pool, not of the run."""

    patches: int | None
    per: str
    seed: int

    def __post_init__(self):
        if self.patches is not None and (type(self.patches) is not int or not 1 <= self.patches < 2**32):
            raise UserError(
                f"data.limit.patches={self.patches} must be a whole number of patches, at least 1, or null."
            )
        if type(self.seed) is not int or self.seed < 0:
            raise UserError(f"data.limit.seed={self.seed} must be a whole number, at least 0.")
        if self.per not in PER:
            raise UserError(f"data.limit.per={self.per} is not one of {', '.join(PER)}.")

    def draw(self, places: Places, seed: int, indices: np.ndarray, redraw: int) -> tuple[np.ndarray, ...]:
        """As `Places.single`, for the patches number `indices` of the run with this seed."""
        if self.per == "total":
            once = blocks(seed, "patch", indices, 0)[:, 0]
            members, which = np.unique(self._member(once[:, 0]), return_inverse=True)
            slide, corner, mpp, _ = places.single(self.seed, _PURPOSE, members, redraw)
            return slide[which], corner[which], mpp[which], once[:, 2:]
        return self._of_slides(places, seed, indices, redraw)

    def _member(self, words: np.ndarray) -> np.ndarray:
        return (words / 2**32 * self.patches).astype(np.int64)

    def _of_slides(self, places: Places, seed: int, indices: np.ndarray, redraw: int) -> tuple[np.ndarray, ...]:
        """A slide is drawn as ever, then one of its patches; where that finds no place on the slide, another slide."""
        slide, corner = np.empty(len(indices), np.int64), np.empty((len(indices), 2), np.int64)
        mpp, spare = np.empty(len(indices)), blocks(seed, "patch", indices, 0)[:, 0, 2:]
        others, redraw = divmod(redraw, _REDRAWS)
        pending = np.arange(len(indices))
        for nth_slide in range(SLIDES):
            own = blocks(seed, "patch", indices[pending], 1, (others << 16) + nth_slide)
            drawn = places.choice.draw(*places.magnification.draw(own[:, 0, 0] / 2**32), own[:, 0, 1] / 2**32)
            members, which = np.unique(drawn << 32 | self._member(own[:, 1, 0]), return_inverse=True)
            found, there, at = self._places(places, members, redraw)
            found, there, at = found[which], there[which], at[which]
            done = pending[found]
            slide[done], corner[done], mpp[done] = drawn[found], there[found], at[found]
            pending = pending[~found]
            if len(pending) == 0:
                return slide, corner, mpp, spare
        raise places.no_position()

    def _places(self, places: Places, members: np.ndarray, redraw: int) -> tuple[np.ndarray, ...]:
        """found (N,) bool, corner (N, 2) as x0 and y0, mpp (N,) of `members`, which are slide * 2^32 + number."""
        slide = members >> 32
        u = blocks(self.seed, f"{_PURPOSE} magnification", members, 0)[:, 0] / 2**32
        mpp = places.magnification_on(slide, u[:, 0], u[:, 1])
        corner, found = np.empty((len(members), 2), np.int64), np.zeros(len(members), bool)
        pending, tries = np.flatnonzero(np.isfinite(mpp)), 0
        while len(pending) and tries < TRIES:
            tries = more(tries, len(pending), TRIES)
            u = blocks(self.seed, _PURPOSE, members[pending], tries, redraw)[:, 1:, :3] / 2**32
            frame = Frame.of(places.index, places.patch_px, slide[pending], mpp[pending])
            here, there = frame.first_with_tissue(frame.around_cells(u), places.min_tissue)
            found[pending[here]], corner[pending[here]] = True, there[here]
            pending = pending[~here]
        return found, corner, mpp
