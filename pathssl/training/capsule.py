"""What is kept of a step whose loss or gradient is not a number: enough to compute it again."""

import json
from pathlib import Path
from typing import Any

import torch

from pathssl.files import atomic_folder
from pathssl.training.checkpoints import STATE


def write_capsule(run: Path, step: int, account: dict[str, Any], state: dict[str, Any]) -> Path:
    """run/capsules/step_<step>/ with the state before the step and capsule.json: `account` with the step, as users count it from 1."""
    path = Path(run) / "capsules" / f"step_{step:08d}"
    with atomic_folder(path) as folder:
        torch.save(state, folder / STATE)
        (folder / "capsule.json").write_text(json.dumps({"step": step, **account}, indent=1) + "\n")
    return path
