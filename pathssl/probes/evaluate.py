"""All configured probes of one encoder: every task by every protocol, beside nulls, and the label-free metrics.

Axes: N samples, D features; H, W pixels, C colours.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.metrics import odcorr, rankme
from pathssl.probes.cache import VERSION, FeatureCache, key_of, weights_hash
from pathssl.probes.embedding import embedded
from pathssl.probes.feature_set import ByTask, FeatureSet, ProbeProtocol, ProtocolResult
from pathssl.probes.features import extract
from pathssl.probes.images import array_batches
from pathssl.probes.null import COLOUR, RANDOM, colour_histogram
from pathssl.probes.outcome import TaskOutcome, classified
from pathssl.probes.segmentation.outcome import segment
from pathssl.probes.segmentation.protocol import SegmentationHeads
from pathssl.probes.segmentation.task import SegmentationTask
from pathssl.probes.site import SiteTest
from pathssl.probes.slide_level.bags import BagTask
from pathssl.probes.stain_shifts import Measure, StainShifts
from pathssl.probes.task import Task
from pathssl.probes.token_picture import token_picture


@dataclass(frozen=True)
class ProbeOutcome:
    """`metrics` with the keys of metrics.jsonl ("probe/...", "unsupervised/..."), and `tasks` by name for storage."""

    metrics: dict[str, float]
    tasks: dict[str, TaskOutcome]


# By name: the encoder with random weights, None where the encoder is one itself; and nothing for histograms of colour, which need none.
Nulls = dict[str, nn.Module | None]


class Probes:
    """Tasks by protocols, and, on `held_out_NHWC` (uint8 patches of slides that are not trained on), RankMe and ODCorr.

    `mean` and `std` are the colour normalisation that the encoder was trained with. `random_weights` makes an encoder of the same
    architecture with fresh weights; None says that the encoder which is probed with nulls is one. `stains` adds how far other stains
    move features and change predictions, `site` (of the held-out patches) whether features tell where a slide is from. `pool` and
    `block` say what stands for an image of a task (see Embedding; of masks, `block` alone); `cache` keeps its features.
    `settings` of each task, to be kept with its numbers.
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
        random_weights: Callable[[], nn.Module] | None = None,
        stains: StainShifts | None = None,
        site: SiteTest | None = None,
        pool: str = "cls",
        block: int | None = None,
        cache: FeatureCache | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        if tasks and not protocols:
            raise UserError(f"tasks {', '.join(tasks)} but no protocol: give probe=[linear], or task=[] for none.")
        self.tasks = dict(tasks)
        self.protocols = dict(protocols)
        self.of_task = {name: fitting(name, task, protocols) for name, task in tasks.items()}
        self.held_out_NHWC = held_out_NHWC
        self.batch_size = batch_size
        self.mean, self.std = mean, std
        self.random_weights = random_weights
        self.stains, self.site = stains, site
        self.pool, self.block, self.cache = pool, block, cache
        self.settings = settings or {}

    def run(self, encoder: nn.Module, *, device: torch.device | str, with_nulls: bool) -> ProbeOutcome:
        """Every number of this encoder; `with_nulls` adds `<protocol>_<null>` for each null, which are wanted once in a run.

        A null is the same protocol on something that has learned nothing: the architecture with random weights, and colour histograms
        of the same images.
        """
        self._known: dict[int, str | None] = {}  # by id: files and weights may be others when it runs again
        metrics: dict[str, float] = {}
        outcomes: dict[str, TaskOutcome] = {}
        nulls: Nulls = {}
        if with_nulls:
            nulls = {RANDOM: self.random_weights and self.random_weights().to(device), COLOUR: None}
        for name, task in self.tasks.items():
            if isinstance(task, SegmentationTask):
                outcomes[name] = self._segment(encoder, name, task, device, nulls)
            else:
                outcomes[name] = self._classify(encoder, name, task, device, nulls)
            outcomes[name] = replace(outcomes[name], made_with=self.settings.get(name, {}))
            metrics |= {f"probe/{name}/{key}": value for key, value in outcomes[name].results.items()}
        if self.held_out_NHWC is not None:
            metrics |= self._unsupervised(lambda batches: self._extract(encoder, batches, device))
        return ProbeOutcome(metrics, outcomes)

    def draw(self, path: Path, encoder: nn.Module, *, device: torch.device | str) -> None:
        """Writes a picture of the encoder's patch tokens of the first held-out patches to `path`; without such patches nothing."""
        if self.held_out_NHWC is None:
            return
        picture = token_picture(encoder, self.held_out_NHWC, device=device, mean=self.mean, std=self.std)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        write_atomic(path, buffer.getvalue())

    def _classify(
        self, encoder: nn.Module, name: str, task: Task, device: torch.device | str, nulls: Nulls
    ) -> TaskOutcome:
        def measured(measure: Measure, key: str | None) -> tuple[FeatureSet, dict[str, ProtocolResult]]:
            features = self._features(task, measure, key)
            return features, {key: protocol.run(features) for key, protocol in self.of_task[name].items()}

        def of_encoder(some: nn.Module) -> tuple[FeatureSet, dict[str, ProtocolResult]]:
            embedding = embedded(some, pool=self.pool, block=self.block)
            return measured(lambda batches: self._extract(embedding, batches, device), self._key(some, task, device))

        features, by_protocol = of_encoder(encoder)
        found = dict(by_protocol)
        for null, of in nulls.items():
            if null == COLOUR:
                _, results = measured(colour_histogram, None)
            else:
                results = by_protocol if of is None else of_encoder(of)[1]
            found |= {f"{key}_{null}": result for key, result in results.items()}
        return classified(features, found)

    def _segment(
        self, encoder: nn.Module, name: str, task: SegmentationTask, device: torch.device | str, nulls: Nulls
    ) -> TaskOutcome:
        how = {"device": device, "mean": self.mean, "std": self.std, "block": self.block}
        return TaskOutcome(*segment(encoder, task, self.of_task[name], self.batch_size, nulls, **how))

    def _key(self, encoder: nn.Module, task: Task, device: torch.device | str) -> str | None:
        """Everything that the features of a task follow from; None: they are not kept."""
        data = self._once(task, task.data_hash) if self.cache is not None else None
        if data is None:
            return None
        heads = [
            module.num_heads for module in encoder.modules() if hasattr(module, "num_heads")
        ]  # of which weights tell nothing
        how = self.pool, self.block, list(self.mean), list(self.std), self.batch_size
        weights = self._once(encoder, lambda: weights_hash(encoder))
        where = torch.device(device).type, torch.get_num_threads(), VERSION, timm.__version__
        return key_of(weights, repr(encoder), heads, how, data, *where)

    def _once(self, of: object, compute: Callable[[], str | None]) -> str | None:
        """What `compute` says of a task or an encoder, asked once in a run of the probes: it reads all of it."""
        if id(of) not in self._known:
            self._known[id(of)] = compute()
        return self._known[id(of)]

    def _features(self, task: Task, measure: Measure, key: str | None) -> FeatureSet:
        def compute() -> np.ndarray:
            return measure(task.batches(self.batch_size))

        features = task.feature_set(compute() if key is None else self.cache.get(key, compute))
        if self.stains is None:
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


def fitting(
    name: str,
    task: Task | SegmentationTask,
    protocols: Mapping[str, ProbeProtocol | SegmentationHeads],
    *,
    or_none: bool = False,
) -> dict[str, ProbeProtocol | SegmentationHeads]:
    """The protocols that run on a task of this kind; UserError where there is none, unless `or_none`."""
    protocols = {
        key: protocol.of(name) if isinstance(protocol, ByTask) else protocol for key, protocol in protocols.items()
    }
    masks, slides = isinstance(task, SegmentationTask), isinstance(task, BagTask)
    fit = {
        key: protocol
        for key, protocol in protocols.items()
        if isinstance(protocol, SegmentationHeads) == masks and (slides or not getattr(protocol, "only_slides", False))
    }
    if not fit and not or_none:
        kind, such = ("of masks", "seg_linear") if masks else ("of slides" if slides else "of images", "linear")
        raise UserError(f"Task {name} is {kind}, which none of the protocols {', '.join(protocols)} is for: "
                        f"name one that is too, as in probe=[{','.join([*protocols, such])}].")  # fmt: skip
    return fit


def unsupervised(features_ND: np.ndarray) -> dict[str, float]:
    """RankMe (higher is better) and ODCorr (lower is better), by their keys in metrics.jsonl."""
    return {"unsupervised/rankme": rankme(features_ND), "unsupervised/odcorr": odcorr(features_ND)}
