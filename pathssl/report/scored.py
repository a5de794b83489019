"""What a run's stored predictions come to: a metric, and the same metric in each draw of cases.

Axes: N samples (or images with masks), R runs of a protocol (or heads), K classes, S draws of cases.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pathssl.metrics import bootstrap, segmentation
from pathssl.metrics.classification import auroc, balanced_accuracy_of, confusion, f1_of

# Those that follow from counts by case.
_OF_CLASSES = {"balanced_accuracy": (balanced_accuracy_of, bootstrap.balanced_accuracies), "f1": (f1_of, bootstrap.f1s)}
_OF_MASKS = {"dice": (segmentation.dice, bootstrap.dices), "miou": (segmentation.miou, bootstrap.mious)}
_FEW_SHOT = "shot_balanced_accuracy"


def drawn(key: str) -> bool:
    """Whether a metric of probes can be had in each draw of cases. (The area under the curve of several runs cannot: their scores are not
    kept, but for the means.)
    """
    metric = key.rpartition("/")[2]
    return metric in (*_OF_CLASSES, *_OF_MASKS, "auroc") or metric.endswith(_FEW_SHOT)


@dataclass(frozen=True)
class Scored:
    """One run's metric. `cases`: the number of groups of samples, or, where `grouped` is false, of the samples themselves: nobody said
    whose they are. sample: the same text for the same samples with the same labels and cases, which have the same draws.
    """

    seed: int
    sample: str
    samples: int
    cases: int
    grouped: bool
    value: float
    values_S: np.ndarray


def scored(stored: Mapping[str, np.ndarray], seed: int, protocol: str, split: str, metric: str) -> Scored | None:
    """Of a run's stored predictions of a task; None where there are none of that protocol on that split.

    Protocols of several runs: the mean of the runs' metric.
    """
    if str(stored["split"]) != split:
        return None
    if metric.endswith(_FEW_SHOT):
        found = _of_few_shots(stored, protocol, int(metric.removesuffix(_FEW_SHOT)))
    elif metric == "auroc":
        found = _of_scores(stored, protocol)
    else:
        found = (_of_masks if metric in _OF_MASKS else _of_classes)(stored, protocol, metric)
    if found is None:
        return None
    ids, groups = stored["ids"].tolist(), stored["groups"].tolist()
    labels = stored["labels"].tolist() if "labels" in stored else []  # masks have none
    sample = hashlib.sha256(json.dumps([ids, groups, labels]).encode()).hexdigest()
    return Scored(seed, sample, len(ids), len(set(groups)), groups != ids, *found)


def _of_classes(stored: Mapping[str, np.ndarray], protocol: str, metric: str) -> tuple[float, np.ndarray] | None:
    if f"{protocol}_runs_predictions" in stored:
        predictions_RN = stored[f"{protocol}_runs_predictions"]
    elif f"{protocol}_scores" in stored:
        predictions_RN = stored[f"{protocol}_scores"].argmax(axis=1)[None]
    else:
        return None
    labels_N, groups_N, classes = stored["labels"], stored["groups"], len(stored["classes"])
    of, in_draws = _OF_CLASSES[metric]
    values = [float(of(confusion(labels_N, one_N, classes))) for one_N in predictions_RN]
    return float(np.mean(values)), np.mean(
        [in_draws(labels_N, one_N, groups_N, classes) for one_N in predictions_RN], axis=0
    )


def _of_scores(stored: Mapping[str, np.ndarray], protocol: str) -> tuple[float, np.ndarray] | None:
    if f"{protocol}_scores" not in stored or f"{protocol}_runs_predictions" in stored:
        return None
    labels_N, scores_NK = stored["labels"], stored[f"{protocol}_scores"]
    value = auroc(labels_N, scores_NK)
    return None if value is None else (value, bootstrap.aurocs(labels_N, scores_NK, stored["groups"]))


def _of_few_shots(stored: Mapping[str, np.ndarray], protocol: str, shots: int) -> tuple[float, np.ndarray] | None:
    if f"{protocol}_hits" not in stored or shots not in stored[f"{protocol}_shots"]:
        return None
    row = stored[f"{protocol}_shots"].tolist().index(shots)
    value = float(stored[f"{protocol}_draws"][row].mean())
    return value, bootstrap.recalls(stored[f"{protocol}_hits"][row], stored["labels"], stored["groups"])


def _of_masks(stored: Mapping[str, np.ndarray], protocol: str, metric: str) -> tuple[float, np.ndarray] | None:
    if f"{protocol}_confusion" not in stored or "background" not in stored:
        return None
    confusion_RNKK = stored[f"{protocol}_confusion"].swapaxes(0, 1)
    background = None if stored["background"] < 0 else int(stored["background"])
    of, in_draws = _OF_MASKS[metric]
    values = [of(one_NKK, background) for one_NKK in confusion_RNKK]
    return float(np.mean(values)), np.mean(
        [in_draws(one_NKK, stored["groups"], background) for one_NKK in confusion_RNKK], axis=0
    )
