"""Checkpoints: folders that are complete or absent, written beside training."""

import logging
import pickle
import re
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pathssl.errors import UserError
from pathssl.files import atomic_folder, remove_folder

log = logging.getLogger(__name__)
_NAME = re.compile(r"step_(\d{8})")
STATE, TEACHER = "state.pt", "teacher.safetensors"


class Checkpoints:
    """run/checkpoints/step_<step>/ with teacher.safetensors, kept for the steps that `tidy` is told, and state.pt, kept for the last.

    `save` takes tensors that nobody changes any more and returns at once: they are written by a thread, whose failure the next call raises.
    """

    def __init__(self, run: Path):
        self.folder = Path(run) / "checkpoints"
        self._writer: threading.Thread | None = None
        self._error: OSError | RuntimeError | SafetensorError | None = None

    def save(self, step: int, teacher: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Begins to write step's checkpoint; then the training state of the one before is dropped."""
        self.wait()
        self._writer = threading.Thread(target=self._write, args=(step, teacher, state), name="checkpoint")
        self._writer.start()

    def wait(self) -> None:
        """Returns when what was saved is on disk; raises what kept it from getting there."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._error is not None:
            error, self._error = self._error, None
            raise RuntimeError(
                f"A checkpoint could not be written to {self.folder}: {error}. The one before is whole: make room and repeat the command."
            ) from error

    def _write(self, step: int, teacher: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        try:
            with atomic_folder(self.path(step)) as folder:
                save_file(teacher, folder / TEACHER)
                torch.save(state, folder / STATE)
            for older in self.steps():
                if older != step:
                    (self.path(older) / STATE).unlink(missing_ok=True)
        except (
            OSError,
            RuntimeError,
            SafetensorError,
        ) as error:  # the writers of torch and safetensors have their own for a full disk
            self._error = error

    def tidy(self, keep: Iterable[int]) -> None:
        """Removes the checkpoints of all other steps than `keep`, but never the last."""
        self.wait()
        keep = {*keep, *self.steps()[-1:]}
        for step in self.steps():
            if step not in keep:
                remove_folder(self.path(step))

    def clean(self) -> None:
        """Removes what a killed process left half-written or half-removed."""
        if self.folder.is_dir():
            for path in self.folder.glob(".step_*"):
                shutil.rmtree(path)

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, ascending."""
        if not self.folder.is_dir():
            return []
        matches = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in matches if match)

    def load_last(self) -> dict[str, Any] | None:
        """The training state of the newest checkpoint that has one, in the CPU's memory; None where nothing was saved yet.

        A state that is there and cannot be read is an error, never a fresh start.
        """
        for step in reversed(self.steps()):
            path = self.path(step) / STATE
            if path.is_file():
                return load_state(path)
        if self.steps():
            raise UserError(f"{self.folder} has checkpoints but no training state. Remove it to start this run afresh.")
        return None


def load_state(path: Path) -> dict[str, Any]:
    """A training state; UserError where it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Remove the folder {path.parent.parent} of this run to start it afresh."
        ) from error
