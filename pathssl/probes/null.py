"""What colour alone gives, a row that every encoder must beat, and the names of all such rows.

Axes: B images of a batch, N of the set, C colours; H, W pixels; V the 256 values of a pixel.
"""

from collections.abc import Iterable

import numpy as np
from einops import rearrange
from PIL import Image

from pathssl.metric_keys import NULLS

BINS = 10  # for each colour, so 30 numbers an image: our choice
RANDOM, COLOUR = NULLS


def colour_histogram(batches: Iterable[np.ndarray]) -> np.ndarray:
    """(N, 3 x BINS) float32: for each colour, the share of pixels in each of BINS equal ranges of 0 ... 255.

    `batches` are (B, H, W, 3) uint8.
    """
    return np.concatenate([_histograms(batch_BHWC) for batch_BHWC in batches])


def _histograms(images_BHWC: np.ndarray) -> np.ndarray:
    by_value = np.array([Image.fromarray(image_HWC).histogram() for image_HWC in images_BHWC])
    counts_BCV = rearrange(by_value, "b (c v) -> b c v", v=256)
    bin_V = np.arange(256) * BINS // 256
    counts_BCbins = counts_BCV @ (bin_V[:, None] == np.arange(BINS))
    shares = counts_BCbins / counts_BCV.sum(axis=2, keepdims=True)
    return rearrange(shares, "b c bins -> b (c bins)").astype(np.float32)
