"""All configured probes of one encoder: every task by every protocol, the colour null, and the label-free metrics.

Axes: N samples, D features, K classes; H, W pixels, C colours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.metrics import odcorr, rankme
from pathssl.probes.feature_set import FeatureSet, ProbeProtocol, ProtocolResult
from pathssl.probes.features import extract
from pathssl.probes.images import array_batches
from pathssl.probes.null import SUFFIX, colour_histogram
from pathssl.probes.segmentation.outcome import segment
from pathssl.probes.segmentation.protocol import SegmentationHeads
from pathssl.probes.segmentation.task import SegmentationTask
from pathssl.probes.task import Task


@dataclass(frozen=True)
class TaskOutcome:
    """`results` {"<protocol>/<split>/<metric>": value} and `predictions`, arrays for an .npz without pickles.

    Predictions: `classes` (K,), `split` (the name of the split they are of: test, or val where there is none), for its
    samples `ids`, `groups`, `labels` (N,), and for each protocol `<protocol>_scores` (N, K), whose rows sum to 1, and
    what validation chose, as `<protocol>_C` or `<protocol>_k`. Those of a segmentation task: see `segment`.
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

    `mean` and `std` are the colour normalisation that the encoder was trained with.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task | SegmentationTask],
        protocols: Mapping[str, ProbeProtocol | SegmentationHeads],
        *,
        held_out_NHWC: np.ndarray | None,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        if tasks and not protocols:
            raise UserError(f"tasks {', '.join(tasks)} but no protocol: give probe=[linear], or task=[] for none.")
        self.tasks = dict(tasks)
        self.protocols = dict(protocols)
        self.of_task = {name: fitting(name, task, protocols) for name, task in tasks.items()}
        self.held_out_NHWC = held_out_NHWC
        self.batch_size = batch_size
        self.mean, self.std = mean, std

    def run(self, encoder: nn.Module, *, device: torch.device | str, with_nulls: bool) -> ProbeOutcome:
        """Every number of this encoder; `with_nulls` adds `<protocol>_colour_histogram`, for once in a run.

        The null is the same protocol on colour histograms of the same images: it does not depend on the encoder.
        """
        metrics: dict[str, float] = {}
        outcomes: dict[str, TaskOutcome] = {}
        for name, task in self.tasks.items():
            if isinstance(task, SegmentationTask):
                outcomes[name] = self._segment(encoder, name, task, device, with_nulls)
            else:
                outcomes[name] = self._classify(encoder, name, task, device, with_nulls)
            metrics |= {f"probe/{name}/{key}": value for key, value in outcomes[name].results.items()}
        if self.held_out_NHWC is not None:
            batches = array_batches(self.held_out_NHWC, self.batch_size)
            metrics |= unsupervised(self._extract(encoder, batches, device))
        return ProbeOutcome(metrics, outcomes)

    def _classify(
        self, encoder: nn.Module, name: str, task: Task, device: torch.device | str, with_nulls: bool
    ) -> TaskOutcome:
        protocols = self.of_task[name]
        features = task.feature_set(self._extract(encoder, task.batches(self.batch_size), device))
        by_protocol = {key: protocol.run(features) for key, protocol in protocols.items()}
        if with_nulls:
            colours = task.feature_set(colour_histogram(task.batches(self.batch_size)))
            by_protocol |= {f"{key}_{SUFFIX}": protocol.run(colours) for key, protocol in protocols.items()}
        return _outcome(features, by_protocol)

    def _segment(
        self, encoder: nn.Module, name: str, task: SegmentationTask, device: torch.device | str, with_nulls: bool
    ) -> TaskOutcome:
        how = {"device": device, "mean": self.mean, "std": self.std, "with_nulls": with_nulls}
        return TaskOutcome(*segment(encoder, task, self.of_task[name], self.batch_size, **how))

    def _extract(self, encoder: nn.Module, batches, device: torch.device | str) -> np.ndarray:
        return extract(encoder, batches, device=device, mean=self.mean, std=self.std)


def fitting(
    name: str, task: Task | SegmentationTask, protocols: Mapping[str, ProbeProtocol | SegmentationHeads]
) -> dict[str, ProbeProtocol | SegmentationHeads]:
    """The protocols that run on a task of this kind; UserError where there is none."""
    masks = isinstance(task, SegmentationTask)
    fit = {key: protocol for key, protocol in protocols.items() if isinstance(protocol, SegmentationHeads) == masks}
    if not fit:
        kind, such = ("segmentation", "seg_linear") if masks else ("classification", "linear")
        raise UserError(f"task {name} is {kind}, which none of the protocols {', '.join(protocols)} is for: "
                        f"name one that is too, as in probe=[{','.join([*protocols, such])}].")  # fmt: skip
    return fit


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
        results |= {f"{protocol}/{key}": value for key, value in result.results.items()}
        predictions[f"{protocol}_scores"] = result.scores[split]
        predictions |= {f"{protocol}_{key}": np.array(value) for key, value in result.chosen.items()}
    return TaskOutcome(results, predictions)
