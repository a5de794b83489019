"""Why a step failed: computed again on this machine, from the state before it that its capsule holds."""

import copy
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from pathssl import parts
from pathssl.determinism import deterministic
from pathssl.errors import UserError, some
from pathssl.make import make
from pathssl.models.network import Network
from pathssl.objectives.dino import Terms, slices
from pathssl.records import read_json
from pathssl.replay import Step as Found
from pathssl.report.words import plural
from pathssl.run import build_recipe
from pathssl.training.checkpoints import STATE, load_state
from pathssl.training.state import restore
from pathssl.training.step import Step

log = logging.getLogger(__name__)
_ACCOUNT = "capsule.json"
_NAMED, _LISTED = 5, 20  # of many tensors or patches: in a sentence, in lines


@dataclass(frozen=True)
class Capsule:
    """What was kept of a failed step, counted from 1, of the run in `run`, whose loss or gradient (`failed`) was no finite number.

    values: the scheduled ones. micro_batch: the patches that passed at a time. processes: for each, first_patch, patches, views_seeds,
    micro_batch (the failing one's rows among its patches) and terms.
    """

    folder: Path
    run: Path
    step: int
    failed: str
    values: dict[str, float]
    micro_batch: int
    processes: list[dict[str, Any]]

    @property
    def views_seeds(self) -> np.ndarray:
        """(B,) uint64, in the order of the batch."""
        return np.concatenate([np.array(process["views_seeds"], np.uint64) for process in self.processes])


@dataclass(frozen=True)
class Again:
    """What the step came to here. A number that is not finite is a string, as JSON knows none.

    micro_batches: {"patches": first and last, "finite", "terms", "in_the_run": the terms then, None where they were not kept}.
    weights, gradients: the names of tensors that hold NaN or Inf, of the model and of the gradient of a finite loss.
    patches: {"patch", "slide", "x0", "y0", "mpp", "in": those of views, teacher and student that are not finite for it}.
    on: the machine and precision.
    """

    on: str
    micro_batches: list[dict[str, Any]]
    weights: list[str]
    gradients: list[str]
    patches: list[dict[str, Any]]
    verdict: str

    def text(self) -> str:
        """For people."""
        lines = [f"The step again, on {self.on}, from the state before it:"]
        for row in self.micro_batches:
            (first, last), then = row["patches"], row["in_the_run"]
            how = "finite" if row["finite"] else "NOT FINITE"
            in_the_run = f"  (in the run: {_said(then)})" if then else ""
            lines.append(f"  patches {first} to {last}: {how}: {_said(row['terms'])}{in_the_run}")
        if self.weights:
            lines.append(f"  NaN or Inf in {plural(len(self.weights), 'tensor')}: {some(self.weights, _NAMED)}")
        if self.gradients:
            lines.append(
                f"  NaN or Inf in the gradient of {plural(len(self.gradients), 'tensor')}: {some(self.gradients, _NAMED)}"
            )
        for row in self.patches[:_LISTED]:
            place = f"{row['slide']} at {row['x0']}, {row['y0']}, {row['mpp']:g} µm/px"
            lines.append(f"  patch {row['patch']} ({place}): not finite: {', '.join(row['in'])}")
        if more := len(self.patches[_LISTED:]):
            lines.append(f"  and so {more} more; --json names all")
        return "\n".join([*lines, self.verdict])


def is_capsule(folder: Path) -> bool:
    return (folder / _ACCOUNT).is_file()


def read_capsule(folder: Path) -> Capsule:
    folder = Path(os.path.abspath(folder))
    account = json.loads((folder / _ACCOUNT).read_text())
    kept = {name: account[name] for name in ("step", "failed", "values", "micro_batch", "processes")}
    return Capsule(folder, folder.parents[1], **kept)


def compute_again(capsule: Capsule, found: Found) -> Again:
    """Views, targets and losses of the failed step; `found` are its patches. All processes' shares are computed by this one."""
    pixels, seeds = found.pixels(), capsule.views_seeds
    if other := found.indices[found.draws.views_seed != seeds].tolist():
        log.warning(
            "%d of this step's patches, such as %d, are not those that the run drew: do not trust what follows.",
            len(other),
            other[0],
        )
    step, weights, largest = _restored(capsule, found.config)
    broken = {name: np.zeros(len(pixels), bool) for name in ("views", "teacher", "student")}
    micro_batches = []
    with torch.no_grad(), _watched(step.objective.teacher, broken["teacher"]):
        views, targets = step.targets(capsule.values, torch.from_numpy(pixels).to(step.device), seeds)
        broken["views"] |= _not_finite(views["global"], axis=1) | _not_finite(views["local"], axis=1)
        with _watched(step.objective.student, broken["student"]):
            for rows in slices(views, capsule.micro_batch):
                terms = step.losses(int(found.indices[0]), views, targets, rows)
                micro_batches.append(_account(capsule, found.indices[rows], terms))
    known = found.rows()
    patches = [
        {name: known[i][name] for name in ("patch", "slide", "x0", "y0", "mpp")}
        | {"in": [name for name, flags in broken.items() if flags[i]]}
        for i in np.flatnonzero(np.any(list(broken.values()), axis=0))
    ]
    failed = [row for row in micro_batches if not row["finite"]]
    gradients = [] if failed or capsule.failed == "loss" else _broken_gradients(step, capsule, found, pixels)
    if failed:
        verdict = _blame(failed, weights, largest, patches, len(pixels))
    elif gradients:
        verdict = (
            f"The loss is finite and its gradient is not, first in {gradients[-1]}. The largest weight is {largest}."
        )
    else:
        verdict = (
            f"The {capsule.failed} is finite here: another machine or precision. The run failed on {_there(found)}."
        )
    return Again(_here(step), micro_batches, weights, gradients, patches, verdict)


def _broken_gradients(step: Step, capsule: Capsule, found: Found, pixels: np.ndarray) -> list[str]:
    """The parameters whose gradient is NaN or infinite, in the order of the model, whose last layer the backward pass meets first."""
    on_device = torch.from_numpy(pixels).to(step.device)
    step.gradient(capsule.values, int(found.indices[0]), on_device, capsule.views_seeds)
    gradients = {name: parameter.grad for name, parameter in step.objective.student.named_parameters()}
    return [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]


def _restored(capsule: Capsule, config: dict[str, Any]) -> tuple[Step, list[str], str]:
    """The run's objective and what moves it, in the state before the step; its tensors with NaN or Inf; the largest weight in words."""
    config = copy.deepcopy(config)
    torch.set_num_threads(config["train"]["threads"])
    deterministic(config["train"]["deterministic"])
    config["train"]["precision"] = config["derived"]["precision"]
    config["parallel"]["compile"] = False
    config["init"] |= {"pretrained": False, "path": None, "name": None}  # every weight comes from the capsule
    device = torch.device("cuda" if config["train"]["device"] != "cpu" and torch.cuda.is_available() else "cpu")
    objective, views = parts.objective(config), make(config["augmentation"])
    step = parts.step(config, build_recipe(config), objective, views, device, capsule.micro_batch)
    try:
        state = load_state(capsule.folder / STATE)
    except UserError as error:
        raise UserError(
            f"{capsule.folder / STATE} cannot be read. The same command as before makes the capsule again."
        ) from error
    restore(objective, step.optimiser, state)
    weights = [name for name, tensor in state["objective"].items() if not torch.isfinite(tensor).all()]
    sizes = {name: tensor.abs().max().item() for name, tensor in state["objective"].items() if name not in weights}
    largest = max(sizes, key=sizes.__getitem__, default=None)
    return step, weights, "" if largest is None else f"{sizes[largest]:.3g}, in {largest}"


@contextmanager
def _watched(network: Network, broken_B: np.ndarray) -> Iterator[None]:
    """Inside, patches for which `network` gives NaN or Inf are marked; they pass through it in order, a micro-batch a call."""
    passed = 0

    def look(_network: Network, given: tuple, keywords: dict[str, Any], outputs: dict[str, torch.Tensor]) -> None:
        nonlocal passed
        batch, (height, width) = given[0][0].shape[1], given[0][0].shape[-2:]
        marks = broken_B[passed : passed + batch]
        passed += batch
        marks |= _not_finite(outputs["features"], axis=1) | _not_finite(outputs["scores"], axis=1)
        if "patch_scores" in outputs:
            patch_px = network.encoder.patch_embed.patch_size
            tokens = (height // patch_px[0]) * (width // patch_px[1])
            of_patch_M = (keywords["tokens_M"] // tokens % batch).cpu().numpy()
            marks[of_patch_M[_not_finite(outputs["patch_scores"], axis=0)]] = True

    handle = network.register_forward_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _not_finite(tensor: torch.Tensor, axis: int) -> np.ndarray:
    """For each place of `axis` whether anything there is NaN or Inf."""
    rows = rearrange(tensor.movedim(axis, 0), "b ... -> b (...)")
    return (~torch.isfinite(rows)).any(1).cpu().numpy()


def _account(capsule: Capsule, indices: np.ndarray, terms: Terms) -> dict[str, Any]:
    """The row of a micro-batch."""
    then = {process["first_patch"] + process["micro_batch"][0]: process["terms"] for process in capsule.processes}
    kept = then.get(int(indices[0])) if capsule.failed == "loss" else None
    return {
        "patches": [int(indices[0]), int(indices[-1])],
        "finite": bool(torch.isfinite(terms["loss"])),
        "terms": _plain(terms),
        "in_the_run": None if kept is None else _plain(kept),
    }


def _plain(terms: Mapping[str, Any]) -> dict[str, float | str]:
    """Numbers, and strings for those that are not finite."""
    return {name: float(x) if math.isfinite(float(x)) else str(float(x)) for name, x in terms.items()}


def _blame(
    failed: list[dict[str, Any]], weights: list[str], largest: str, patches: list[dict[str, Any]], count: int
) -> str:
    """What is to blame for the `failed` micro-batches of a step of `count` patches, in a sentence or two."""
    already = "The weights were already broken before this step: "
    if weights:
        which = "1 tensor holds" if len(weights) == 1 else f"{len(weights)} tensors hold"
        return f"{already}{which} NaN or Inf ({some(weights, _NAMED)})."
    if len(patches) == count > 1:
        return f"{already}none is NaN or Inf, but every patch becomes so. The largest is {largest}."
    if not patches:
        terms = sorted({name for row in failed for name, x in row["terms"].items() if isinstance(x, str)})
        return f"What teacher and student give is finite, and what is computed from it is not: {', '.join(terms)}."
    names = some([row["patch"] for row in patches], _NAMED)
    which = f"Patch {names} alone breaks it" if len(patches) == 1 else f"Patches {names} alone break it"
    early = any("views" in row["in"] for row in patches)
    return f"{which}, of {count}{': the views are not finite before any network sees them' if early else ''}."


def _there(found: Found) -> str:
    """The machine that the run was last started on, and its precision."""
    environment = read_json(found.run / "environment.json") or {}
    name = (environment.get("gpus") or [environment.get("cpu") or "a machine that its folder does not name"])[0]
    return f"{name} in {found.config['derived']['precision']}"


def _here(step: Step) -> str:
    name = torch.cuda.get_device_name(step.device) if step.device.type == "cuda" else "this CPU"
    return f"{name} in {'bf16' if isinstance(step.autocast, torch.autocast) else 'fp32'}"


def _said(terms: dict[str, Any]) -> str:
    return ", ".join(f"{name} {x if isinstance(x, str) else f'{x:.4g}'}" for name, x in terms.items())
