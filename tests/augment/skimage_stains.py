"""HED jitter in float64 with scikit-image's matrices, negative stains kept: what ours is compared with."""

import numpy as np
from skimage.color import hed_from_rgb, rgb_from_hed


def unclipped(images_NHWC: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """(N, H, W, 3): separation, alpha s + beta (both (N, 3)) and recombination of images in [0, 1]."""
    unit = np.log(1e-6)
    stains = np.log(np.maximum(images_NHWC, 1e-6)) / unit @ hed_from_rgb
    stains = stains * alpha[:, None, None] + beta[:, None, None]
    return np.clip(np.exp(stains * unit @ rgb_from_hed), 0, 1)
