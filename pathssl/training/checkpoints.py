"""Checkpoints: folders that are complete or absent, written beside training."""

import logging
import pickle
import re
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
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

    `save` takes tensors that nobody changes any more; it and `tidy` return at once. What they ask for is done in order by a thread, whose
    failure `wait` and the next `save` raise.
    """

    def __init__(self, run: Path):
        self.folder = Path(run) / "checkpoints"
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._begun: list[Future] = []
        self._saving: int | None = None

    def save(self, step: int, teacher: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Begins to write step's checkpoint, once the one before is written; then the training state of that one is dropped."""
        self.wait()
        self._saving = step
        self._begun.append(self._thread.submit(self._write, step, teacher, state))

    def tidy(self, keep: Callable[[list[int]], Collection[int]]) -> None:
        """Removes the checkpoints that are not among `keep`(steps of all), but never the last."""
        kept = keep(sorted({*self.steps(), *([] if self._saving is None else [self._saving])}))
        self._begun.append(self._thread.submit(self._tidy, kept))

    def then(self, do: Callable[[], None]) -> None:
        """Calls `do` once all that was asked for before is done; it must be short."""
        self._begun.append(self._thread.submit(do))

    def wait(self) -> None:
        """Returns when all is done; raises what kept it from being so."""
        begun, self._begun, self._saving = self._begun, [], None
        try:
            for task in begun:
                task.result()
        except (
            OSError,
            RuntimeError,
            SafetensorError,
        ) as error:  # torch and safetensors have their own for a full disk
            raise RuntimeError(
                f"A checkpoint could not be written to {self.folder}: {error}. The one before is whole: make room and repeat the command."
            ) from error

    def _write(self, step: int, teacher: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        with atomic_folder(self.path(step)) as folder:
            save_file(teacher, folder / TEACHER)
            torch.save(state, folder / STATE)
        for older in self.steps():
            if older != step:
                (self.path(older) / STATE).unlink(missing_ok=True)

    def _tidy(self, kept: Collection[int]) -> None:
        steps = self.steps()
        for step in steps[:-1]:
            if step not in kept:
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
        """The training state of the newest checkpoint that has one; None where nothing was saved yet.

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
    """A training state, read as it is used, so that the processes of a machine share its memory; UserError where it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Remove the folder {path.parent.parent} of this run to start it afresh."
        ) from error
