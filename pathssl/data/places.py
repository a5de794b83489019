"""Where single patches lie: the magnification, the slide and the position that a counter draws."""

import numpy as np

from pathssl.data.attempts import SLIDES, TRIES, blocks, more
from pathssl.data.frame import Frame
from pathssl.data.magnification import Magnification
from pathssl.data.slide_choice import slide_choice
from pathssl.errors import UserError
from pathssl.slides.slide import COARSER
from pathssl.slides.slide_index import SlideIndex


class Places:
    """Draws places for patches of `patch_px` with at least `min_tissue` of tissue.

    slides: for each magnification, or interval of them, those scanned finely enough for it, or for part of it.
    """

    def __init__(
        self,
        index: SlideIndex,
        slides: np.ndarray,
        magnification: Magnification,
        weight_by: str | None,
        patch_px: int,
        min_tissue: float,
    ):
        self.index, self.magnification, self.patch_px, self.min_tissue = index, magnification, patch_px, min_tissue
        if weight_by is not None:
            slides = slides[index.weight[slides] > 0]
        self.slides = self._fine_enough(slides)
        self.choice = slide_choice(index, slides, self.slides, weight_by, magnification.continuous)

    def _fine_enough(self, slides: np.ndarray) -> list[np.ndarray]:
        mpp, scale = self.magnification, self.index.mpp[slides]
        if not len(slides):
            raise UserError(
                "No slide is left to draw patches from: all are held out, or have weight 0 in the manifest."
            )
        for m in mpp.mpp[mpp.drawn]:
            if not (scale <= COARSER * m).any():
                raise UserError(
                    f"No slide is scanned finely enough for {m:g} um per pixel: the finest of {len(slides)} has {scale.min():g}. "
                    "Choose a coarser magnification=..., such as 10x or 5x."
                )
        return [slides[scale <= COARSER * end] for end in mpp.end]

    def single(self, seed: int, purpose: str, counters: np.ndarray, redraw: int = 0) -> tuple[np.ndarray, ...]:
        """slide (N,), corner (N, 2) as x0 and y0, mpp (N,) of patches drawn one by one; and (N, 2) random words that they do not use."""
        slide, corner = np.empty(len(counters), np.int64), np.empty((len(counters), 2), np.int64)
        mpp = which = spare = frame = None
        pending = np.arange(len(counters))
        for nth_slide in range(SLIDES):
            tries = 0
            while tries < TRIES:
                is_new_slide, tries = tries == 0, more(tries, len(pending), TRIES)
                bits = blocks(seed, purpose, counters[pending], tries, (redraw << 16) + nth_slide)
                u = bits / 2**32
                if mpp is None:  # drawn once, so that rejections cannot shift the mix
                    which, mpp = self.magnification.draw(u[:, 0, 0])
                    spare = bits[:, 0, 2:]
                if is_new_slide:
                    drawn = self.choice.draw(which[pending], mpp[pending], u[:, 0, 1])
                    frame = Frame.of(self.index, self.patch_px, drawn, mpp[pending])
                found, there = frame.first_with_tissue(frame.around_cells(u[:, 1:, :3]), self.min_tissue)
                slide[pending[found]], corner[pending[found]] = frame.slide[found], there[found]
                if found.all():
                    return slide, corner, mpp, spare
                pending, frame = pending[~found], frame[~found]
        raise self.no_position()

    def magnification_on(self, slides: np.ndarray, u: np.ndarray, within: np.ndarray) -> np.ndarray:
        """(N,) mpp of patches on these slides, NaN where a slide suits none: as often as among all patches that are drawn there.

        u, within: (N,) uniform in [0, 1). A slide's share of an interval of magnifications is taken at the finest end that it suits.
        """
        mix, scale = self.magnification, self.index.mpp[slides]
        low = np.clip(scale[:, None] / COARSER, mix.mpp, mix.end)  # (N, M)
        odds = np.zeros(low.shape)
        for m in np.flatnonzero(mix.drawn):
            fits = scale <= COARSER * mix.end[m]
            odds[fits, m] = mix.weight[m] * self.choice.probability(slides[fits], m, low[fits, m])
            if mix.continuous:
                odds[fits, m] *= np.log(mix.end[m] / low[fits, m]) / np.log(mix.end[m] / mix.mpp[m])
        cumulative = np.cumsum(odds, axis=1)
        total = cumulative[:, -1]
        which = (cumulative <= (u * total)[:, None]).sum(axis=1)
        suited = total > 0
        mpp = np.full(len(slides), np.nan)
        rows, which = np.flatnonzero(suited), which[suited]
        mpp[rows] = mix.between(low[rows, which], mix.end[which], within[rows])
        return mpp

    def no_position(self) -> UserError:
        """What to say where no slide has room for a patch."""
        return UserError(
            f"No position with {self.min_tissue:.0%} of tissue was found in {SLIDES * TRIES:,} draws at "
            f"{' or '.join(self.magnification.names())} um per pixel for patches of {self.patch_px} px: the tissue is smaller than the "
            "patches. Lower data.foreground.min_tissue, or choose a finer magnification."
        )
