"""torchvision's own way to the same views: a pipeline per view, one image at a time, on the CPU."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchvision.transforms import v2

from pathssl.errors import UserError

_KERNEL_PX = 9  # DINOv2's released transforms; ours holds three sigmas, 13 px


def torchvision_views(settings: Mapping[str, Any]) -> list[v2.Transform]:
    """A transform for each view, from a (3, S, S) uint8 tensor or a PIL image to a normalised float32 tensor.

    settings: those of `MultiCrop`. UserError for terms that torchvision does not have.
    """
    if settings["hed"] is not None or settings["turn"]:
        raise UserError("torchvision has neither HED jitter nor quarter turns (augmentation.hed, augmentation.turn)")
    blur, solarise = settings["blur"], settings["solarise"]
    blurred = [blur["global_1_p"], blur["global_2_p"], blur["local_p"]] if blur is not None else [0.0] * 3
    solarised = [0.0, solarise["global_2_p"] if solarise is not None else 0.0, 0.0]
    kinds = [("global", 0), ("global", 1)] + [("local", 2)] * settings["local_crops"]
    return [_view(settings, kind, blurred[which], solarised[which]) for kind, which in kinds]


def _view(settings: Mapping[str, Any], kind: str, blur_p: float, solarise_p: float) -> v2.Transform:
    """In the order of DINO's released code; uint8 to the last but one, which is the fast way."""
    steps: list[v2.Transform] = [
        v2.RandomResizedCrop(
            settings[f"{kind}_px"], scale=settings[f"{kind}_scale"], ratio=settings["ratio"], antialias=True
        ),
        v2.RandomHorizontalFlip(settings["horizontal_flip"]),
        v2.RandomVerticalFlip(settings["vertical_flip"]),
    ]
    if (jitter := settings["jitter"]) is not None:
        strength = {name: jitter[name] for name in ("brightness", "contrast", "saturation", "hue")}
        steps.append(v2.RandomApply([v2.ColorJitter(**strength)], jitter["p"]))
    if (grey := settings["grey"]) is not None:
        steps.append(v2.RandomGrayscale(grey["p"]))
    if blur_p:
        steps.append(v2.RandomApply([v2.GaussianBlur(_KERNEL_PX, settings["blur"]["sigma"])], blur_p))
    if solarise_p:
        steps.append(v2.RandomSolarize(settings["solarise"]["threshold"], solarise_p))
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(settings["mean"], settings["std"])]
    return v2.Compose(steps)


def batch_of_views(transforms: Sequence[v2.Transform], images: Sequence[Any]) -> list[torch.Tensor]:
    """For each view (B, 3, px, px) float32."""
    return [torch.stack([transform(image) for image in images]) for transform in transforms]
