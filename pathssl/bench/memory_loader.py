"""Patches that are there already, handed over as the loader of slides does."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np

from pathssl.data.loader import Batch
from pathssl.data.magnification import Magnification
from pathssl.data.patches import Patches
from pathssl.data.sampling import Draws


class _OneSlide:
    """As much of an index as counting patches takes."""

    case, site, tissue_mm2 = ("a",), ("a",), np.ones(1)

    def __len__(self) -> int:
        return 1


class MemoryLoader:
    """Gives `pixels` (B, P, P, 3) uint8 with `seeds` for every step, and measures the `seconds` that the steps `timed` take.

    `before_the_first` is called before time counts, and `synchronise` whenever it is read.
    """

    def __init__(self, pixels: np.ndarray, seeds: np.ndarray, timed: range, synchronise: Callable[[], None]):
        self.rows, self.timed, self.synchronise = range(len(pixels)), timed, synchronise
        self.before_the_first: Callable[[], None] = lambda: None
        self.seconds = 0.0
        sampler = SimpleNamespace(
            index=_OneSlide(),
            magnification=Magnification([1.0], [1.0], False),
            slides=[np.zeros(1, np.int64)],
            patch_px=pixels.shape[1],
        )
        self.reader = SimpleNamespace(sampler=sampler)
        none = np.zeros(len(pixels), np.int64)
        self._patches = Patches(pixels, Draws(none, none, none, np.ones(len(pixels)), seeds, none, none))

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        since = 0.0
        for step in range(first, last):
            if step == self.timed.start:
                self.before_the_first()
            if step in (self.timed.start, self.timed.stop):
                self.synchronise()
                self.seconds, since = time.perf_counter() - since, time.perf_counter()
            yield Batch(step, self._patches, 0.0)
