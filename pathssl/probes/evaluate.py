"""All configured probes of one encoder: every task by every protocol, the colour null, and the label-free metrics.

Axes: N samples, D features, K classes; H, W pixels, C colours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.metrics import confusion, odcorr, rankme
from pathssl.probes.feature_set import FeatureSet, ProbeProtocol, ProtocolResult
from pathssl.probes.features import extract
from pathssl.probes.images import array_batches
from pathssl.probes.null import COLOUR, RANDOM, colour_histogram
from pathssl.probes.site import SiteTest
from pathssl.probes.slide_level.bags import BagTask
from pathssl.probes.stain_shifts import Measure, StainShifts, flips
from pathssl.probes.task import Task


@dataclass(frozen=True)
class TaskOutcome:
    """`results` {"<protocol>/<split>/<metric>": value} and `predictions`, arrays for an .npz without pickles.

    Predictions: `classes` (K,), `split` (the name of the split they are of: test, or val where there is none), for its
    samples `ids`, `groups`, `labels` (N,), and for each protocol `<protocol>_scores` (N, K), whose rows sum to 1, their
    `<protocol>_confusion` (K, K; true classes in rows), and what validation chose, as `<protocol>_C` or `<protocol>_k`. Protocols of
    several runs keep each run's metrics, as `<protocol>_runs_<split>_<metric>`. Few-shot protocols have no scores but
    `<protocol>_shots` (S,) and `<protocol>_draws` (S, R), the balanced accuracy of each number of shots and draw.
    """

    results: dict[str, float]
    predictions: dict[str, np.ndarray]


@dataclass(frozen=True)
class ProbeOutcome:
    """`metrics` with the keys of metrics.jsonl ("probe/...", "unsupervised/..."), and `tasks` by name for storage."""

    metrics: dict[str, float]
    tasks: dict[str, TaskOutcome]


class Probes:
    """Tasks by protocols, and, on `held_out_NHWC` (uint8 patches of slides that are not trained on), RankMe and ODCorr.

    `mean` and `std` are the colour normalisation that the encoder was trained with. `random_weights` makes an encoder of the same
    architecture with fresh weights; None says that the encoder which is probed with nulls is one. `stains` adds how far other stains
    move features and change predictions, `site` (of the held-out patches) whether features tell where a slide is from.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        protocols: Mapping[str, ProbeProtocol],
        *,
        held_out_NHWC: np.ndarray | None,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        random_weights: Callable[[], nn.Module] | None,
        stains: StainShifts | None = None,
        site: SiteTest | None = None,
    ):
        if tasks and not protocols:
            raise UserError(f"tasks {', '.join(tasks)} but no protocol: give probe=[linear], or task=[] for none.")
        self.tasks = dict(tasks)
        self.protocols = dict(protocols)
        for name, task in self.tasks.items():
            if not self._of(task):
                raise UserError(
                    f"Task {name} is of images, and {', '.join(protocols)} takes slides: add probe=[linear], say."
                )
        self.held_out_NHWC = held_out_NHWC
        self.batch_size = batch_size
        self.mean, self.std = mean, std
        self.random_weights = random_weights
        self.stains, self.site = stains, site

    def run(self, encoder: nn.Module, *, device: torch.device | str, with_nulls: bool) -> ProbeOutcome:
        """Every number of this encoder; `with_nulls` adds `<protocol>_<null>` for each null, which are wanted once in a run.

        A null is the same protocol on something that has learned nothing: the architecture with random weights, and colour histograms
        of the same images.
        """
        metrics: dict[str, float] = {}
        outcomes: dict[str, TaskOutcome] = {}
        random = self.random_weights().to(device) if with_nulls and self.random_weights is not None else None
        for name, task in self.tasks.items():
            features = self._features(task, lambda batches: self._extract(encoder, batches, device))
            by_protocol = self._by_protocol(task, features)
            if with_nulls:
                untrained = by_protocol
                if random is not None:
                    untrained = self._by_protocol(
                        task, self._features(task, lambda batches: self._extract(random, batches, device))
                    )
                nulls = {RANDOM: untrained, COLOUR: self._by_protocol(task, self._features(task, colour_histogram))}
                by_protocol = by_protocol | {
                    f"{key}_{null}": result for null, of in nulls.items() for key, result in of.items()
                }
            outcomes[name] = _outcome(features, by_protocol)
            metrics |= {f"probe/{name}/{key}": value for key, value in outcomes[name].results.items()}
        if self.held_out_NHWC is not None:
            metrics |= self._unsupervised(lambda batches: self._extract(encoder, batches, device))
        return ProbeOutcome(metrics, outcomes)

    def _by_protocol(self, task: Task, features: FeatureSet) -> dict[str, ProtocolResult]:
        return {key: protocol.run(features) for key, protocol in self._of(task).items()}

    def _of(self, task: Task) -> dict[str, ProbeProtocol]:
        """The protocols that take such a task."""
        slides = isinstance(task, BagTask)
        return {
            name: each for name, each in self.protocols.items() if slides or not getattr(each, "only_slides", False)
        }

    def _features(self, task: Task, measure: Measure) -> FeatureSet:
        features = task.feature_set(measure(task.batches(self.batch_size)))
        if self.stains is None or not isinstance(task, Task):
            return features
        return replace(features, shifted=self.stains.splits(task, measure, self.batch_size))

    def _unsupervised(self, measure: Measure) -> dict[str, float]:
        features_ND = measure(array_batches(self.held_out_NHWC, self.batch_size))
        metrics = unsupervised(features_ND)
        if self.stains is not None:
            metrics |= self.stains.distances(self.held_out_NHWC, features_ND, measure, self.batch_size)
        if self.site is not None:
            metrics |= self.site.measure(features_ND)
        return metrics

    def _extract(self, encoder: nn.Module, batches, device: torch.device | str) -> np.ndarray:
        return extract(encoder, batches, device=device, mean=self.mean, std=self.std)


def unsupervised(features_ND: np.ndarray) -> dict[str, float]:
    """RankMe (higher is better) and ODCorr (lower is better), by their keys in metrics.jsonl."""
    return {"unsupervised/rankme": rankme(features_ND), "unsupervised/odcorr": odcorr(features_ND)}


def _outcome(features: FeatureSet, by_protocol: dict[str, ProtocolResult]) -> TaskOutcome:
    split, samples = features.final()
    results: dict[str, float] = {}
    predictions = {
        "classes": np.array(features.classes),
        "split": np.array(split),
        "ids": samples.ids_N,
        "groups": samples.groups_N,
        "labels": samples.labels_N,
    }
    for protocol, result in by_protocol.items():
        found = {key: value for key, value in result.results.items() if key.split("/")[0] not in features.shifted}
        results |= {f"{protocol}/{key}": value for key, value in (found | flips(features, result)).items()}
        if split in result.scores:
            scores_NK = result.scores[split]
            predictions[f"{protocol}_scores"] = scores_NK
            predictions[f"{protocol}_confusion"] = confusion(
                samples.labels_N, scores_NK.argmax(axis=1), len(features.classes)
            )
        predictions |= {f"{protocol}_{key}": array for key, array in result.arrays.items()}
        predictions |= {f"{protocol}_{key}": np.array(value) for key, value in result.chosen.items()}
    return TaskOutcome(results, predictions)
