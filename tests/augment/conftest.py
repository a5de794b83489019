"""The committed augmentation options as plain settings, and patches that look like tissue."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[2] / "conf" / "augmentation"


def committed_settings(option: str, **changes) -> dict:
    """Arguments of MultiCrop as conf/augmentation/<option>.yaml and its defaults list give them, for 64 and 32 px."""
    own = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"), resolve=False)
    parents = [name for name in own.pop("defaults", []) if name != "_self_"]
    own.pop("_target_", None)
    for parent in parents:
        own = committed_settings(parent) | own
    return own | {"global_px": 64, "local_px": 32} | changes


@pytest.fixture(scope="session")
def settings():
    """Call it as settings(option, **changes)."""
    return committed_settings


@pytest.fixture(scope="session")
def patches() -> torch.Tensor:
    """(7, 96, 96, 3) uint8: smooth blobs of colour plus fine noise, each patch another."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (7, 3, 9, 9)))
    smooth = F.interpolate(coarse, size=96, mode="bicubic").permute(0, 2, 3, 1)
    noisy = smooth + torch.from_numpy(rng.normal(0, 12, smooth.shape))
    return noisy.clamp(0, 255).to(torch.uint8)
