"""What can be refused of a config before anything is read or written."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pathssl.budget import check_budget
from pathssl.complaints import task_options
from pathssl.errors import UserError
from pathssl.identity import flatten
from pathssl.leakage import check_action, check_trained_on
from pathssl.models.encoder import check_name
from pathssl.probes.embedding import embedded

# {key: (least, most)}; 128 batches ahead is what pipes hold.
_WHOLE = {
    "seed": (0, 2**32 - 1),
    "train.patches": (0, None),
    "train.threads": (1, None),
    "train.probe_batch_size": (1, None),
    "data.limit.seed": (0, 2**32 - 1),
    "batch.size": (1, None),
    "batch.reference": (1, None),
    "parallel.accumulate": (1, None),
    "checkpoint.keep_every": (1, None),
    "loader.workers": (0, None),
    "loader.prefetch": (1, 128),
    "loader.open_slides": (1, None),
    "unsupervised.patches": (2, None),
    "robustness.patches": (2, None),
    "robustness.seed": (0, None),
    "robustness.site_folds": (2, None),
    "leakage.patches": (0, None),
}
# Below 1; a final momentum of 1 is a teacher that stands still.
_FRACTIONS = ("schedule.warmup", "optim.freeze_last_layer", "data.held_out.fraction")
PROBED = ("inline", "job")
_UP_TO_ONE = ("teacher.momentum", "teacher.final_momentum")


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError for values of the wrong kind or range, which would fail late, or silently mean something else."""
    check_name(config["model"]["name"])
    flat = flatten(config)
    for key, (least, most) in _WHOLE.items():
        value = flat[key]
        if type(value) is not int or value < least or (most is not None and value > most):
            raise UserError(
                f"{key}={value} must be a whole number, at least {least}{f' and at most {most}' if most else ''}."
            )
    for key in (*_FRACTIONS, *_UP_TO_ONE):
        value, most = flat[key], 1 if key in _UP_TO_ONE else math.nextafter(1, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise UserError(f"{key}={value} is a fraction: 0 or more, and {'at most' if most == 1 else 'below'} 1.")
    if type(rescan := config["data"]["rescan"]) is not bool:
        raise UserError(f"data.rescan={rescan} must be true or false.")
    train = config["train"]
    for key in ("checkpoint_every", "log_every"):
        if not 0 < train[key] <= 1:
            raise UserError(f"train.{key}={train[key]} is a fraction of training: above 0, at most 1.")
    if (where := config["probe"]["where"]) not in PROBED:
        raise UserError(f"probe.where={where} is not one of {', '.join(PROBED)}.")
    check_action(config["leakage"]["on_overlap"])
    for name in check_trained_on(config["leakage"]["trained_on"]):
        if name not in config["task"] and name not in (options := task_options()):
            raise UserError(
                f"leakage.trained_on names {name}, which is no task of this run and no option of `task`: {', '.join(options)}."
            )
    check_budget(config["budget"]["max_gpu_hours"])
    check_slide_cache(config["slide_cache"]["gib"])
    minutes = config["checkpoint"]["state_every_min"]
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int | float) or minutes <= 0):
        raise UserError(f"checkpoint.state_every_min={minutes} must be a number of minutes, or null for never.")
    path = config["init"]["path"]
    if path is not None and not Path(path).is_file():
        raise UserError(f"init.path={path} is not a file.")


def check_slide_cache(gib: Any) -> None:
    """The verbs that look at slides alone ask for this too."""
    if isinstance(gib, bool) or not isinstance(gib, int | float) or not 0 < gib < math.inf:
        raise UserError(
            f"slide_cache.gib={gib} must be a number of GiB, above 0: what the disk of slide_cache.dir has to spare."
        )


def check_patch_size(encoder: nn.Module, config: Mapping[str, Any]) -> None:
    """Every image that the encoder is to see must be a whole number of its patches wide."""
    sizes = {f"resolution.{key}": config["resolution"][key] for key in ("global_px", "local_px")}
    _whole_patches(encoder, sizes | _image_sizes(config))


def _image_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    return {f"task.{name}.image_px": block["image_px"] for name, block in config["task"].items() if "image_px" in block}


def _whole_patches(encoder: nn.Module, sizes: Mapping[str, int]) -> None:
    patch_px = encoder.patch_embed.patch_size[0]
    for key, size in sizes.items():
        if size % patch_px:
            raise UserError(
                f"{key}={size} is not a multiple of the model's patch size, {patch_px} px: {size - size % patch_px} or "
                f"{size - size % patch_px + patch_px} would be (for patches of 14 px there is resolution=r224_p14)."
            )


def check_probed(encoder: nn.Module, config: Mapping[str, Any]) -> None:
    """What the probes of a checkpoint would find only once it has been trained: features there are, of images that fit."""
    if config["task"]:
        embedded(encoder, **config["features"])
        _whole_patches(encoder, _image_sizes(config))


def check_held_out(encoder: nn.Module, config: Mapping[str, Any]) -> None:
    """RankMe and ODCorr of fewer patches than features would measure the sample."""
    patches = config["unsupervised"]["patches"]
    if patches < encoder.num_features:
        raise UserError(
            f"unsupervised.patches={patches} is below the {encoder.num_features} features of {config['model']['name']}: RankMe and ODCorr "
            f"take at least as many held-out patches as features. Give unsupervised.patches={encoder.num_features} or more, and the same "
            "to all arms that are compared."
        )


def check_passes(config: Mapping[str, Any], micro_batch: int) -> None:
    """What is computed among patches that pass together must not depend on how many do."""
    if config["objective"]["head_batch_norm"] and micro_batch != config["batch"]["size"]:
        raise UserError(
            f"objective.head_batch_norm=true normalises over the patches that pass together, {micro_batch} of batch.size="
            f"{config['batch']['size']} here, which would change what is learned: it takes one process and parallel.accumulate=1."
        )
    _check_group(config, micro_batch)


def _check_group(config: Mapping[str, Any], micro_batch: int) -> None:
    """DINOv2's neighbours are sought in groups of patches that pass together."""
    spread = config["objective"].get("spread", {"kind": "none"})
    if spread["kind"] == "none":
        return
    group = spread["group"]
    if type(group) is not int or group < 2:
        raise UserError(f"objective.spread.group={group} must be a whole number, at least 2.")
    if micro_batch % group:
        fitting = sorted(range(2, micro_batch + 1), key=lambda n: (micro_batch % n > 0, abs(n - group)))
        such = f", such as {fitting[0]}" if fitting else ""
        raise UserError(
            f"objective.spread.group={group} does not divide the {micro_batch} patches that pass at a time (batch.size over processes "
            f"and parallel.accumulate). The group is part of what is learned, so it is not changed by itself: choose one that does{such}."
        )
