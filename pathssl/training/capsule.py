"""What is kept of a step whose loss is not a number: enough to compute it again."""

import json
from collections.abc import Sequence
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


def account(values: dict[str, float], seed: int, failures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What capsule.json says: scheduled values, the run's seed, and for each process where its loss failed, with patches and seeds."""
    return {"seed": seed, "values": values, "processes": list(failures)}
