"""What probing a task comes to: numbers, and the predictions that they are of.

Axes: N samples, K classes; S numbers of shots, R draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pathssl.metrics import confusion
from pathssl.probes.feature_set import FeatureSet, ProtocolResult
from pathssl.probes.stain_shifts import flips


@dataclass(frozen=True)
class TaskOutcome:
    """`results` {"<protocol>/<split>/<metric>": value} and `predictions`, arrays for an .npz without pickles.

    Predictions: `classes` (K,), `split` (the name of the split they are of: test, or val where there is none), for its samples `ids`,
    `groups`, `labels` (N,), and for each protocol `<protocol>_scores` (N, K), whose rows sum to 1, their `<protocol>_confusion` (K, K;
    true classes in rows), and what validation chose, as `<protocol>_C` or `<protocol>_k`. Protocols of several runs keep each run's
    metrics, as `<protocol>_runs_<split>_<metric>`, and predictions, `<protocol>_runs_predictions` (R, N). Few-shot protocols have no
    scores but `<protocol>_shots` (S,), `<protocol>_draws` (S, R), the balanced accuracy of each number of shots and draw, and
    `<protocol>_hits` (S, N), in which share of the draws each sample was classified rightly. Those of a segmentation task: see
    `segmentation.outcome`. `made_with`: the settings that they follow from.
    """

    results: dict[str, float]
    predictions: dict[str, np.ndarray]
    made_with: Mapping[str, Any] = field(default_factory=dict)


def classified(features: FeatureSet, by_protocol: dict[str, ProtocolResult]) -> TaskOutcome:
    """Of a classification task, by each protocol."""
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
