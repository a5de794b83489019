"""The ViT: a timm architecture by name, without its classifier."""

import difflib
from typing import Any

import timm
from timm.layers import DropPath
from torch import nn

from pathssl.errors import UserError


def create_encoder(
    name: str, args: dict[str, Any], drop_path: float = 0.0, drop_path_rule: str = "linear", *, pretrained: bool = False
) -> nn.Module:
    """timm's model `name` built with `args`, mapping (B, 3, H, W) normalised images to (B, D) features.

    drop_path: the rate of stochastic depth, of the last block, which the others rise to ("linear"), or of all blocks ("uniform").
    The features are the CLS token after the last norm. Other image sizes than args["img_size"] are taken as they come, with resampled
    position embeddings. Raises UserError for an unknown name, and for arguments that the architecture does not take.
    """
    check_name(name)
    if drop_path_rule not in ("linear", "uniform"):
        raise UserError(f"model.drop_path_rule={drop_path_rule} is not one of linear, uniform.")
    try:
        encoder = timm.create_model(
            name,
            pretrained=pretrained,
            num_classes=0,
            dynamic_img_size=True,
            global_pool="token",
            drop_path_rate=drop_path,
            **args,
        )
    except (TypeError, AssertionError) as error:
        raise UserError(f"timm's {name} cannot be built with model.args={args}: {error}") from error
    except (RuntimeError, OSError) as error:  # OSError: neither in the hub's cache nor to be fetched
        if not pretrained:
            raise
        raise UserError(
            f"timm has no usable pretrained weights for {name} with model.args={args} ({error}). Choose init=random, or init=file "
            "init.path=FILE.safetensors."
        ) from error
    if drop_path_rule == "uniform" and drop_path > 0:
        for block in encoder.blocks:
            block.drop_path1, block.drop_path2 = DropPath(drop_path), DropPath(drop_path)
    # Masking tokens of iBOT and classifier heads are objectives' business: what stays here is what an export holds.
    return encoder


def check_name(name: str) -> None:
    """Raises UserError unless timm knows a ViT of this name."""
    known = timm.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise UserError(
            f"model.name={name} is not an architecture of timm {timm.__version__}"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + " All names: python -c \"import timm; print(timm.list_models('vit*'))\""
        )
    if not name.startswith(("vit_", "deit")):
        raise UserError(f"model.name={name} is not a ViT: pathssl trains timm's vit_* and deit* architectures.")
