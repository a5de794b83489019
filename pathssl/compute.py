"""What training costs in arithmetic, whatever device does it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pathssl.checks import check_patch_size
from pathssl.flops import counted
from pathssl.models.encoder import create_encoder

_BACKWARD = 2  # times the forward pass


def shape_of(config: Mapping[str, Any]) -> nn.Module:
    """The encoder of a run without its weights (on torch's "meta" device)."""
    model = config["model"]
    with torch.device("meta"):
        return create_encoder(model["name"], dict(model["args"]), model["drop_path"])


def flops_a_patch(config: Mapping[str, Any]) -> int:
    """Floating-point operations of the encoders for one patch of training, two for each multiplication with its addition.

    The student sees all views of a patch, forward and backward; the teacher the global ones, forward. Heads, losses and the optimiser come
    on top: of small models with many prototypes they are not small.
    """
    encoder, views = shape_of(config), config["augmentation"]
    encoder.eval()
    check_patch_size(encoder, config)
    forward = {
        px: counted(lambda px=px: encoder(torch.empty(1, 3, px, px, device="meta")))
        for px in (views["global_px"], views["local_px"])
    }
    student = 2 * forward[views["global_px"]] + views["local_crops"] * forward[views["local_px"]]
    return (1 + _BACKWARD) * student + 2 * forward[views["global_px"]]
