"""The ViT: a timm architecture by name, without its classifier."""

import difflib
from typing import Any

import timm
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from timm.layers import DropPath
from timm.models import VisionTransformer
from torch import nn

from pathssl.errors import UserError

_ELSEWHERE = (
    "hf-hub:",
    "hf_hub:",
    "local-dir:",
)  # of timm: what follows is a repository of the Hugging Face Hub, or a folder in its format
_UNREACHED = (LocalEntryNotFoundError, OfflineModeIsEnabled)


def create_encoder(
    name: str, args: dict[str, Any], drop_path: float = 0.0, drop_path_rule: str = "linear", *, pretrained: bool = False
) -> nn.Module:
    """timm's model `name` built with `args`, mapping (B, 3, H, W) normalised images to (B, D) features.

    name: an architecture; with `pretrained`, a name of weights too, as in vit_small_patch16_224.dino and hf-hub:OWNER/REPOSITORY.
    drop_path: the rate of stochastic depth, of the last block, which the others rise to ("linear"), or of all blocks ("uniform").
    The features are the CLS token after the last norm. Other image sizes than args["img_size"] are taken as they come, with resampled
    position embeddings. Raises UserError for an unknown name, and for arguments that the architecture does not take.
    """
    if not name.startswith(_ELSEWHERE):
        check_name(name.partition(".")[0])
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
        if not pretrained and not name.startswith(_ELSEWHERE):
            raise
        raise UserError(_not_to_be_had(name, args, error)) from error
    if not isinstance(encoder, VisionTransformer):
        raise UserError(
            f"{name} is a {type(encoder).__name__} and not a ViT of timm's, which is what pathssl trains and probes."
        )
    if drop_path_rule == "uniform" and drop_path > 0:
        for block in encoder.blocks:
            block.drop_path1, block.drop_path2 = DropPath(drop_path), DropPath(drop_path)
    # Masking tokens of iBOT and classifier heads are objectives' business: what stays here is what an export holds.
    return encoder


def _not_to_be_had(name: str, args: dict[str, Any], error: Exception) -> str:
    """Why there are no weights of this name, and what to do: a hub may be out of reach, or want to know who asks."""
    otherwise = "Choose init=random, or init=file init.path=FILE.safetensors."
    repository = name.partition(":")[2] if name.startswith(_ELSEWHERE) else f"timm/{name}"
    if isinstance(error, GatedRepoError):
        return (
            f"{name} is gated: ask for access at https://huggingface.co/{repository}, make a token under https://huggingface.co/settings"
            "/tokens, and give it as the environment variable HF_TOKEN, or by `hf auth login`."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no {name} on the Hugging Face Hub, or it is private and HF_TOKEN is not of one who may read it."
        )
    if isinstance(error, _UNREACHED):
        return (
            f"timm has no usable pretrained weights for {name} here: they are not in the hub's cache, and the Hugging Face Hub cannot be "
            f"reached. Fetch them where it can (`hf download {repository}`, into the same HF_HOME), or as a file. {otherwise}"
        )
    return f"timm has no usable pretrained weights for {name} with model.args={args} ({error}). {otherwise}"


def check_name(name: str) -> None:
    """Raises UserError unless timm knows a ViT of this name."""
    known = timm.list_models()
    if name.startswith(_ELSEWHERE) or ("." in name and name.partition(".")[0] in known):
        raise UserError(
            f"model.name={name} is a name of weights, and model.name an architecture: give that, and beside it init=timm init.name={name}."
        )
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise UserError(
            f"model.name={name} is not an architecture of timm {timm.__version__}"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + " All names: python -c \"import timm; print(timm.list_models('vit*'))\""
        )
    if not name.startswith(("vit_", "deit")):
        raise UserError(f"model.name={name} is not a ViT: pathssl trains timm's vit_* and deit* architectures.")
