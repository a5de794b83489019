"""Random parameters of the views: numpy arrays of (views, patches, ...), a pure function of each patch's seed.

Every term of the augmentation draws from a stream of its own name, so that switching one off or adding local views
leaves all other parameters as they were: two arms of a study then differ in the named factor alone.
"""

from dataclasses import dataclass

import numpy as np
from einops import rearrange

from pathssl.seeding import uniforms


@dataclass(frozen=True)
class Stream:
    """Uniform numbers for the views of one kind ("global" or "local") of the patches with these seeds."""

    kind: str
    views: int
    seeds: np.ndarray

    def uniforms(self, purpose: str, n: int, attempt: int = 0) -> np.ndarray:
        """(views, patches, n) float64 in [0, 1). The numbers of a view do not depend on how many views there are."""
        drawn = uniforms(0, f"views/{self.kind}/{purpose}", self.seeds, self.views * n, attempt)
        return rearrange(drawn, "b (v n) -> v b n", n=n)
