"""Everything that one encoder gives on one segmentation task: token maps once, every protocol on them, beside nulls."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from pathssl.probes.null import COLOUR
from pathssl.probes.segmentation.protocol import SegmentationHeads
from pathssl.probes.segmentation.task import SegmentationTask
from pathssl.probes.segmentation.tokens import colour_tokens, encoder_tokens


def segment(
    encoder: nn.Module,
    task: SegmentationTask,
    protocols: Mapping[str, SegmentationHeads],
    batch_size: int,
    nulls: Mapping[str, nn.Module | None],
    *,
    device: torch.device | str,
    mean: Sequence[float],
    std: Sequence[float],
    block: int | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """({"<protocol>/<split>/<metric>": value}, predictions: arrays for an .npz).

    Predictions: `classes` (K,), `background` (its number, -1 for none), `split` (the name of the split they are of: test, or val where
    there is none), for its images `ids`, `groups` (N,), and for each protocol `<protocol>_confusion` (N, S, K, K), pixels by true and
    predicted class for each image and head, and `<protocol>_steps` (S,), which validation chose. Each of `nulls` adds
    `<protocol>_<null>`: the same on the tokens of an encoder that has learned nothing (None: `encoder` is that itself), and on the colour
    histograms of the patches that the tokens are of. block: whose tokens (see `token_map`).
    """

    def measured(tokens_MhwD) -> dict[str, object]:
        return {key: protocol.run(task, tokens_MhwD, device=device) for key, protocol in protocols.items()}

    def tokens_of(some: nn.Module):
        return encoder_tokens(some, task, batch_size, device=device, mean=mean, std=std, block=block)

    tokens_MhwD = tokens_of(encoder)
    own = measured(tokens_MhwD)
    by_protocol = dict(own)
    for null, of in nulls.items():
        if null == COLOUR:
            results = measured(colour_tokens(task, batch_size, tokens_MhwD.shape[1:3]))
        else:
            results = own if of is None else measured(tokens_of(of))
        by_protocol |= {f"{key}_{null}": result for key, result in results.items()}
    split = task.evaluated()[-1]
    here_N = task.splits_N == split
    results: dict[str, float] = {}
    predictions = {
        "classes": np.array(task.classes),
        "background": np.array(-1 if task.background is None else task.background),
        "split": np.array(split),
        "ids": task.ids_N[here_N],
        "groups": task.groups_N[here_N],
    }
    for protocol, result in by_protocol.items():
        results |= {f"{protocol}/{key}": value for key, value in result.results.items()}
        predictions[f"{protocol}_confusion"] = result.confusion[split]
        predictions |= {f"{protocol}_{key}": value for key, value in result.chosen.items()}
    return results, predictions
