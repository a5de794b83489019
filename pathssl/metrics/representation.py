"""Label-free quality of an embedding: the directions it uses (RankMe), how far its features repeat each other (ODCorr), how
far images are apart.

Axes: N samples, D features. Everything is computed in float64.
"""

import numpy as np
from scipy.linalg import svdvals

from pathssl.errors import UserError

EPSILON = 1e-7  # as in the RankMe paper
ROUNDING = 1e-6  # a feature whose range is below this share of its size is constant up to float32 rounding


def rankme(features_ND: np.ndarray) -> float:
    """The effective number of directions that the features use, between 1 (one direction) and D (all alike).

    With the singular values s_k of the N x D matrix (not centred):

        p_k = s_k / sum_j s_j + 1e-7,    RankMe = exp(-sum_k p_k ln p_k)

    Garrido et al., "RankMe: Assessing the downstream performance of pretrained self-supervised representations by
    their rank", ICML 2023, equation 1. RankMe cannot exceed N, so fewer samples than features are refused: encoders of
    different width would be compared by the sample size. Features that are all zero have RankMe 1.
    """
    features_ND = _checked(features_ND)
    n, d = features_ND.shape
    if n < d:
        raise UserError(
            f"RankMe of {n} samples of {d} features cannot exceed {n}, so it would measure the sample. "
            f"Give at least {d} held-out patches (unsupervised.patches)."
        )
    singular_D = svdvals(features_ND, check_finite=False)
    total = singular_D.sum()
    p_D = (singular_D / total if total > 0 else np.zeros(d)) + EPSILON
    return float(np.exp(-np.sum(p_D * np.log(p_D))))


def odcorr(features_ND: np.ndarray) -> float:
    """The mean absolute off-diagonal correlation between features, from 0 (unrelated) to 1 (copies). Lower is better.

    With the D x D matrix C of Pearson correlations over the N samples:

        ODCorr = mean over i != j of |C_ij|

    Sampling noise alone gives about sqrt(2 / (pi N)); as for RankMe, fewer samples than features are refused. The kaiko paper (Aben
    et al. 2024) reports a metric of this name without a formula that we could find: this definition is ours, so values compare among
    runs of this package only.
    A constant feature has no correlation and is left out of the mean; where fewer than two features vary, the
    embedding has collapsed and ODCorr is 1, the worst value.
    """
    features_ND = _checked(features_ND)
    if features_ND.shape[1] < 2:
        raise UserError(f"ODCorr compares pairs of features, but there is only {features_ND.shape[1]} feature.")
    if len(features_ND) < features_ND.shape[1]:
        raise UserError(
            f"ODCorr of {len(features_ND)} samples of {features_ND.shape[1]} features would measure the sample. "
            f"Give at least {features_ND.shape[1]} held-out patches (unsupervised.patches)."
        )
    range_D = np.ptp(features_ND, axis=0)
    features_ND = features_ND[:, range_D > ROUNDING * np.abs(features_ND).max(axis=0)]
    d = features_ND.shape[1]
    if d < 2:
        return 1.0
    centred_ND = features_ND - features_ND.mean(axis=0)
    unit_ND = centred_ND / np.linalg.norm(centred_ND, axis=0)
    correlation_DD = np.minimum(np.abs(unit_ND.T @ unit_ND), 1.0)
    return float((correlation_DD.sum() - np.trace(correlation_DD)) / (d * (d - 1)))


def apart(features_ND: np.ndarray) -> float:
    """How far apart different images are: 0 where all have one direction, 1 where they are at right angles, no unit.

        mean over i != j of (1 - cos(f_i, f_j))

    It describes and has no better end: near 0 the embedding has collapsed (features that are exactly 0 count as
    at right angles), and a larger one need not tell more of tissue.
    """
    features_ND = _unit(_checked(features_ND))
    n, total_D = len(features_ND), features_ND.sum(axis=0)
    return float(1 - (total_D @ total_D - np.sum(features_ND**2)) / (n * (n - 1)))


def shift_distance(before_ND: np.ndarray, after_ND: np.ndarray) -> float:
    """How far a change of the images moves their features, as a share of how far apart different images are. Lower is better.

        mean_i (1 - cos(f_i, f'_i))  /  apart(f)

    f_i and f'_i are the features of image i before and after. 0: the change is not seen; 1: it moves an image as far as another image
    is away; it may be more. Where all images have one direction, the embedding has collapsed and the share is 1. Means, though a
    few images may make much of them: medians vary more with the sample (docs/protocols.md).
    """
    distance = apart(before_ND)
    before_ND, after_ND = _unit(_checked(before_ND)), _unit(_checked(after_ND))
    moved = 1 - np.einsum("nd,nd->n", before_ND, after_ND).mean()
    return float(max(moved, 0) / distance) if distance > ROUNDING else 1.0


def _unit(features_ND: np.ndarray) -> np.ndarray:
    """The rows at length 1; rows of zeros stay."""
    length_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return features_ND / np.where(length_N1 > 0, length_N1, 1)


def _checked(features_ND: np.ndarray) -> np.ndarray:
    """The features in float64, once they are known to be a finite matrix."""
    features_ND = np.asarray(features_ND, np.float64)
    if features_ND.ndim != 2 or len(features_ND) < 2:
        raise ValueError(f"expected features of shape (N, D) with N >= 2, got {features_ND.shape}")
    if not np.isfinite(features_ND).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(features_ND))} features of {features_ND.size} are NaN or Inf")
    return features_ND
