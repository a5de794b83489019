"""How well predicted masks agree with the true ones, from the confusion matrices of images.

Axes: N images, K classes; ... any others. Of a confusion matrix the rows are true classes, the columns predicted ones. Every number is a
function of the matrices of images, so that a bootstrap over cases counts these again and reads no pixel.
"""

import numpy as np


def dice(confusion_NKK: np.ndarray, background: int | None) -> float:
    """The mean over images of the mean over classes of Dice, in [0, 1].

    For a class of an image, Dice = 2 |true and predicted| / (|true| + |predicted|); the mean is over the classes that the image's mask
    has, without the class `background`. An image that has none of them does not count, not even when some were predicted there (`miou`
    counts that). This is MONAI's `DiceMetric(include_background=False, reduction="mean", ignore_empty=True)`, by which eva chooses and
    which it reports, where eva's images are its crops. NaN where no image has a class.
    """
    both_NK, true_NK, predicted_NK = _areas(confusion_NKK, background)
    present_NK = true_NK > 0
    size_NK = np.where(present_NK, true_NK + predicted_NK, 1)
    dice_NK = np.where(present_NK, 2 * both_NK / size_NK, 0)
    present_N = present_NK.sum(axis=1)
    if not present_N.any():
        return float("nan")
    return float((dice_NK.sum(axis=1)[present_N > 0] / present_N[present_N > 0]).mean())


def miou(confusion_NKK: np.ndarray, background: int | None) -> float:
    """The mean over classes of the intersection over the union of all images' pixels together, in [0, 1].

    For a class, IoU = |true and predicted| / |true or predicted|, as in PASCAL VOC; the mean is over the classes that occur in a mask,
    without the class `background`. NaN where there is none.
    """
    both_K, true_K, predicted_K = (areas_NK.sum(axis=0) for areas_NK in _areas(confusion_NKK, background))
    present_K = true_K > 0
    if not present_K.any():
        return float("nan")
    union_K = true_K + predicted_K - both_K
    return float((both_K[present_K] / union_K[present_K]).mean())


def _areas(confusion_NKK: np.ndarray, background: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of each image and class that are both, true, and predicted, in float64, without the background's column."""
    confusion_NKK = np.asarray(confusion_NKK, np.float64)
    if confusion_NKK.ndim != 3 or confusion_NKK.shape[1] != confusion_NKK.shape[2]:
        raise ValueError(f"expected confusion matrices of shape (N, K, K), got {confusion_NKK.shape}")
    areas = np.einsum("nkk->nk", confusion_NKK), confusion_NKK.sum(axis=2), confusion_NKK.sum(axis=1)
    return areas if background is None else tuple(np.delete(area_NK, background, axis=1) for area_NK in areas)
