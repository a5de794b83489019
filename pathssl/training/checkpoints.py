"""Checkpoints: folders that are complete or absent."""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pathssl.errors import UserError
from pathssl.files import atomic_folder

log = logging.getLogger(__name__)
_NAME = re.compile(r"step_(\d{8})")
STATE, TEACHER = "state.pt", "teacher.safetensors"


class Checkpoints:
    """run/checkpoints/step_<step>/ with teacher.safetensors, kept for every step, and state.pt, kept for the last."""

    def __init__(self, run: Path):
        self.folder = Path(run) / "checkpoints"

    def save(self, step: int, teacher: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Writes step's checkpoint, then drops the training state of the one before."""
        with atomic_folder(self.folder / f"step_{step:08d}") as folder:
            save_file({name: tensor.detach().contiguous().cpu() for name, tensor in teacher.items()}, folder / TEACHER)
            torch.save(state, folder / STATE)
        for older in self.steps():
            if older != step:
                (self.folder / f"step_{older:08d}" / STATE).unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, ascending."""
        if not self.folder.is_dir():
            return []
        matches = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in matches if match)

    def load_last(self, device: torch.device) -> dict[str, Any] | None:
        """The training state of the newest checkpoint that has one; None where nothing was saved yet.

        A state that is there and cannot be read is an error, never a fresh start.
        """
        for step in reversed(self.steps()):
            path = self.folder / f"step_{step:08d}" / STATE
            if path.is_file():
                try:
                    return torch.load(path, map_location=device, weights_only=True)
                except (RuntimeError, EOFError, OSError) as error:
                    raise UserError(
                        f"{path} cannot be read ({error}). Remove the folder checkpoints/ of this run to start it afresh."
                    ) from error
        if self.steps():
            raise UserError(f"{self.folder} has checkpoints but no training state. Remove it to start this run afresh.")
        return None
