"""Few images a class: the nearest class mean, over many draws.

Axes: R draws, S the numbers of shots, M the most shots, N train samples (in `_orders` of one class), Q queries, D features, K classes.
"""

import logging
from collections.abc import Sequence

import numpy as np
from einops import rearrange
from threadpoolctl import threadpool_limits

from pathssl.errors import UserError
from pathssl.probes.feature_set import FeatureSet, ProtocolResult, Split
from pathssl.seeding import uniforms

log = logging.getLogger(__name__)

SCORES_AT_ONCE = 2**24  # bounds the scores of queries by draws and classes: 128 MiB


class FewShot:
    """Each query gets the class whose mean over n drawn train samples is nearest, for each n of `shots`, in `draws` draws.

    Features are centred with the mean of all of train (no labels enter) and brought to length 1, means are not: CL2N of Wang et al.,
    "SimpleShot: Revisiting nearest-neighbor classification for few-shot learning" (2019). Nothing is fitted or chosen, so validation
    is another test. The draws of a class follow from `seed`, its samples and their groups alone, not from the features: all arms
    see the same. A draw takes one sample of each group, in random order, before it takes a second of any; its n samples are the first
    n of its 2n. An n that the smallest class of train does not have is left out.
    """

    def __init__(self, *, shots: Sequence[int], draws: int, seed: int):
        self.shots = sorted({int(n) for n in shots})
        self.draws, self.seed = int(draws), int(seed)
        if not self.shots or self.shots[0] < 1 or self.draws < 1 or self.seed < 0:
            raise UserError(
                f"few_shot: shots={list(shots)}, draws={draws}, seed={seed}: give images a class from 1 up, at least one draw, and a "
                "seed from 0 up."
            )
        self._said: set[tuple[int, ...]] = set()

    def run(self, features: FeatureSet) -> ProtocolResult:
        """Balanced accuracy for each number of shots, the mean over draws. Of the final split, by `shots`: `draws` (S, R) are each draw's,
        and `hits` (S, Q) in which share of the draws a sample got its own class.
        """
        shots = self._possible(features)
        with threadpool_limits(1, user_api="blas"):
            centre_D = features.train.features_ND.mean(axis=0, dtype=np.float64)
            means_SRKD = self._means(features, centre_D, shots)
            by_split = {
                name: _accuracies(_unit(split.features_ND - centre_D), split.labels_N, means_SRKD)
                for name, split in features.evaluated().items()
            }
        results = {
            f"{name}/{n}shot_balanced_accuracy": float(accuracy_R.mean())
            for name, (accuracies_SR, _) in by_split.items()
            for n, accuracy_R in zip(shots, accuracies_SR, strict=True)
        }
        final, _ = features.final()
        draws_SR, hits_SQ = by_split[final]
        return ProtocolResult(results, {}, {}, {"shots": np.array(shots), "draws": draws_SR, "hits": hits_SQ})

    def _possible(self, features: FeatureSet) -> list[int]:
        """The numbers of shots that every class of train has; what is left out is said once."""
        fewest = int(np.bincount(features.train.labels_N, minlength=len(features.classes)).min())
        above = tuple(n for n in self.shots if n > fewest)
        if len(above) == len(self.shots):
            raise UserError(
                f"few_shot: every number of shots={self.shots} is above the {fewest} images of the smallest class of train."
            )
        if above and above not in self._said:
            self._said.add(above)
            log.info("few_shot: %s images a class are left out: the smallest class of train has %d.",
                     ", ".join(map(str, above)), fewest)  # fmt: skip
        return [n for n in self.shots if n <= fewest]

    def _means(self, features: FeatureSet, centre_D: np.ndarray, shots: list[int]) -> np.ndarray:
        """(S, R, K, D) float64."""
        train, means = features.train, []
        for label in range(len(features.classes)):
            here = np.flatnonzero(train.labels_N == label)
            unit_ND = _unit(train.features_ND[here] - centre_D)
            order_RM = self._orders(train, here, label)[:, : shots[-1]]
            sums_RD, before, of_class = 0.0, 0, []
            for n in shots:
                sums_RD = sums_RD + unit_ND[order_RM[:, before:n]].sum(axis=1)
                of_class.append(sums_RD / n)
                before = n
            means.append(of_class)
        return rearrange(np.array(means), "k s r d -> s r k d")

    def _orders(self, train: Split, here: np.ndarray, label: int) -> np.ndarray:
        """(R, N) orders in which the draws take the samples `here` of a class: see the class's docstring."""
        n = len(here)
        u_R2N = uniforms(self.seed, f"few_shot/{label}", np.arange(self.draws), 2 * n)
        _, group_N, size_G = np.unique(train.groups_N[here], return_inverse=True, return_counts=True)
        in_group_RN = np.argsort(group_N + u_R2N[:, :n], axis=1)  # group by group, each in random order
        turn_N = np.arange(n) - np.repeat(np.cumsum(size_G) - size_G, size_G)  # of its group's samples, which is it?
        by_turn_RN = np.argsort(turn_N + u_R2N[:, n:], axis=1)
        return np.take_along_axis(in_group_RN, by_turn_RN, axis=1)


def _accuracies(queries_QD: np.ndarray, labels_Q: np.ndarray, means_SRKD: np.ndarray) -> tuple[np.ndarray, ...]:
    """(S, R) the mean over the classes that occur of the share of their queries whose nearest mean is their own's; and (S, Q), float32, in
    which share of the draws that is so of a query.
    """
    _, draws, classes, _ = means_SRKD.shape
    present, class_Q, count = np.unique(labels_Q, return_inverse=True, return_counts=True)
    at_once = max(1, SCORES_AT_ONCE // (draws * classes))
    accuracies, hits = [], np.empty((len(means_SRKD), len(queries_QD)), np.float32)
    for shot, means_RKD in enumerate(means_SRKD):
        weights = rearrange(means_RKD, "r k d -> d (r k)")
        offset_RK = (means_RKD**2).sum(axis=2) / 2
        hits_KR = np.zeros((len(present), draws))
        for start in range(0, len(queries_QD), at_once):
            part = slice(start, start + at_once)
            nearness = rearrange(queries_QD[part] @ weights, "q (r k) -> q r k", k=classes) - offset_RK
            hit_QR = nearness.argmax(axis=2) == labels_Q[part, None]
            np.add.at(hits_KR, class_Q[part], hit_QR)
            hits[shot, part] = hit_QR.mean(axis=1)
        accuracies.append((hits_KR / count[:, None]).mean(axis=0))
    return np.array(accuracies), hits


def _unit(features_ND: np.ndarray) -> np.ndarray:
    """The rows at length 1; rows of zeros stay."""
    length_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return features_ND / np.where(length_N1 > 0, length_N1, 1)
