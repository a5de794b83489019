"""Weighted nearest neighbours by cosine.

Axes: Q queries, N train samples, D features, K classes, M the most neighbours asked for.
"""

from collections.abc import Sequence

import numpy as np

from pathssl.errors import UserError
from pathssl.metrics import balanced_accuracy
from pathssl.probes.feature_set import FeatureSet, ProtocolResult, Split, scored

QUERIES_AT_ONCE = 1024  # bounds the matrix of similarities
VALUES_AT_ONCE = 2**24  # bounds the cosines of queries by train: 128 MiB, and as much again twice


class KNN:
    """Each train neighbour votes for its class with exp(cosine / temperature); the k nearest vote.

    Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018, section 3.4, as
    DINO's evaluation uses it (Caron et al. 2021: temperature 0.07). k is the one of `ks` with the best balanced
    accuracy on validation (the largest at a draw); a k above the number of train samples is passed over.
    """

    def __init__(self, *, ks: Sequence[int], temperature: float):
        self.ks = sorted({int(k) for k in ks})
        self.temperature = float(temperature)
        if not self.ks or self.ks[0] < 1 or self.temperature <= 0:
            raise UserError(f"knn: ks={list(ks)}, temperature={temperature}: give numbers of neighbours from 1 up, and "
                            "a temperature above 0 (DINO: 0.07).")  # fmt: skip

    def run(self, features: FeatureSet) -> ProtocolResult:
        """Balanced accuracy on val and test; scores are the shares of the vote."""
        ks = [k for k in self.ks if k <= len(features.train)]
        if not ks:
            raise UserError(f"knn: every k of {self.ks} is above the {len(features.train)} train images.")
        votes = {name: self._votes(features, split, ks) for name, split in features.evaluated().items()}
        val_labels = features.val.labels_N
        best = max(ks, key=lambda k: (balanced_accuracy(val_labels, votes["val"][k].argmax(axis=1)), k))
        return scored(features, {name: by_k[best] for name, by_k in votes.items()}, {"k": best})

    def _votes(self, features: FeatureSet, queries: Split, ks: list[int]) -> dict[int, np.ndarray]:
        """{k: (Q, K) shares of the vote of the k nearest train samples}, for every k from one search."""
        train_ND, queries_QD = _unit(features.train.features_ND), _unit(queries.features_ND)
        onehot_NK = np.eye(len(features.classes))[features.train.labels_N]
        parts = {k: [] for k in ks}
        at_once = max(1, min(QUERIES_AT_ONCE, VALUES_AT_ONCE // len(train_ND)))
        for start in range(0, len(queries_QD), at_once):
            cosine_QN = queries_QD[start : start + at_once] @ train_ND.T
            nearest_QM = np.argpartition(-cosine_QN, ks[-1] - 1, axis=1)[:, : ks[-1]]
            nearest_QM = np.sort(nearest_QM, axis=1)  # so that equal neighbours rank by their order in train
            order_QM = np.argsort(-np.take_along_axis(cosine_QN, nearest_QM, axis=1), axis=1, kind="stable")
            nearest_QM = np.take_along_axis(nearest_QM, order_QM, axis=1)
            cosine_QM = np.take_along_axis(cosine_QN, nearest_QM, axis=1)
            weight_QM = np.exp((cosine_QM - cosine_QM[:, :1]) / self.temperature)  # the first is largest: no overflow
            for k in ks:
                votes_QK = np.einsum("qm,qmc->qc", weight_QM[:, :k], onehot_NK[nearest_QM[:, :k]])
                parts[k].append(votes_QK / votes_QK.sum(axis=1, keepdims=True))
        return {k: np.concatenate(votes) for k, votes in parts.items()}


def _unit(features_ND: np.ndarray) -> np.ndarray:
    """The rows at length 1, in float64; rows of zeros stay."""
    features_ND = features_ND.astype(np.float64)
    length_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return features_ND / np.where(length_N1 > 0, length_N1, 1)
