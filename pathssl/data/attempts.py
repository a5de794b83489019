"""How many places are tried for a patch, and the random words that it draws for them."""

import numpy as np

from pathssl.seeding import words

TRIES = 32  # positions on a slide before another slide is drawn, so that one sparse slide cannot stall a run
SLIDES = 2048  # that are tried: then there is no such position
_AT_ONCE = 128  # positions that cost about what a call does


def more(tries: int, patches: int, most: int) -> int:
    """How many positions of each of so many patches to look at, where the first `tries` had too little tissue.

    The first that has enough counts, so that this number changes how long it takes and nothing else.
    """
    return min(most, max(1, 4 * tries, _AT_ONCE // max(patches, 1)))


def blocks(seed: int, purpose: str, counters: np.ndarray, tries: int, attempt: int = 0) -> np.ndarray:
    """(N, 1 + tries, 4) random 32-bit words: what each of the counters draws once (of a slide), and for each position that is tried on it.

    Once: magnification, slide, and two to spare. A position: a cell and a point in it, or a point in a region.
    """
    return words(seed, purpose, counters, 4 * (1 + tries), attempt).reshape(-1, 1 + tries, 4)
