"""A run's teacher as a folder that timm opens: weights, timm's config, a model card; reloaded and compared before it is there."""

import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pathssl.errors import UserError
from pathssl.eva_config import FOLDER as EVA
from pathssl.eva_config import holds_configs_alone, write_eva_configs
from pathssl.files import atomic_folder
from pathssl.models.encoder import create_encoder
from pathssl.records import arm_of, read_json
from pathssl.report.card import UNKNOWN_LICENCE, model_card
from pathssl.training.checkpoints import TEACHER, Checkpoints

log = logging.getLogger(__name__)
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
TOLERANCE = 1e-5  # of features, whose sizes are of the order of 1


class ExportFailed(RuntimeError):
    """The export does not open, or does not give the teacher's features; nothing was left of it."""


@dataclass(frozen=True)
class Export:
    """A finished export. difference: the greatest between a feature of the reloaded model and the teacher's."""

    folder: Path
    step: int
    architecture: str
    parameters: int
    difference: float


def export(
    run: Path, to: Path, *, step: int | None, licence: str | None, name: str | None, eva: Sequence[str] = ()
) -> Export:
    """The teacher of checkpoint `step` (None: the last) as the folder `to`, which a fresh process of timm has opened and compared.

    licence: as the Hub names it; None says that it is unknown. name: the model's, for its card; None takes the run's. eva: the tasks for
    which kaiko-eva's configs are written into it. An export that stands at `to` is replaced; anything else is refused.
    """
    run, to = Path(run), Path(to).resolve()
    config = _config(run)
    step, weights = _checkpoint(run, step)
    _refuse_other_folder(to)
    name = _one_line("--name", name) or f"{config['study']}-{arm_of(run)}-seed{config['seed']}-step{step}"
    licence = _one_line("--licence", licence)
    teacher = load_teacher(config, weights)
    parameters = sum(parameter.numel() for parameter in teacher.parameters())
    origin = {"study": config["study"], "arm": arm_of(run), "seed": config["seed"], "step": step}
    origin["commit"] = (read_json(run / "environment.json") or {}).get("commit")
    card = model_card(
        run,
        config,
        step=step,
        name=name,
        licence=licence,
        folder=to.name,
        parameters=parameters,
        features=teacher.num_features,
    )
    try:
        with atomic_folder(to) as folder:
            save_file(_tensors(teacher.state_dict()), folder / WEIGHTS, metadata={"format": "pt"})
            content = timm_config(teacher, config, tag=name, licence=licence or UNKNOWN_LICENCE)
            content["pathssl"] = origin
            (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n")
            (folder / CARD).write_text(card, encoding="utf-8")
            write_eva_configs(folder, eva, encoder=teacher, config=config, called=to.name)
            difference = compare(teacher, folder, config["resolution"]["global_px"])
    except (OSError, SafetensorError) as error:
        raise UserError(f"--to {to} cannot be written: {error}") from error
    return Export(to, step, config["model"]["name"], parameters, difference)


def load_teacher(config: Mapping[str, Any], weights: Path) -> nn.Module:
    """The encoder of the run's config with the tensors of `weights`, all of them and no other, in eval mode."""
    teacher = create_encoder(config["model"]["name"], config["model"]["args"], 0.0)
    try:
        teacher.load_state_dict(load_file(weights), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"{weights} is not a teacher of the run's config: {error}") from error
    return teacher.eval()


def timm_config(encoder: nn.Module, config: Mapping[str, Any], *, tag: str, licence: str) -> dict[str, Any]:
    """The content of config.json, in the format of timm's models on the Hub, for this encoder of the run's config."""
    known = (
        encoder.pretrained_cfg
    )  # timm's own, of the architecture: where its first convolution is, and its classifier
    size = config["resolution"]["global_px"]
    # What the encoder was built with; its image size too where the config leaves it to timm, who would take another for an export.
    args = {"img_size": encoder.patch_embed.img_size, **config["model"]["args"]}
    args |= {"num_classes": encoder.num_classes, "global_pool": encoder.global_pool}
    args |= {"dynamic_img_size": encoder.dynamic_img_size}
    return {
        "architecture": config["model"]["name"],
        "num_classes": encoder.num_classes,
        "num_features": encoder.num_features,
        "global_pool": encoder.global_pool,
        "model_args": args,
        "pretrained_cfg": {
            "tag": re.sub(r"[^A-Za-z0-9_-]+", "_", tag),
            "custom_load": False,
            "input_size": [3, size, size],
            "fixed_input_size": False,
            "interpolation": "bicubic",  # as the probes resample images, whose largest centred square they take
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": config["augmentation"]["mean"],
            "std": config["augmentation"]["std"],
            "num_classes": encoder.num_classes,
            "pool_size": None,
            "first_conv": known["first_conv"],
            "classifier": known["classifier"],
            "license": licence,
        },
    }


_RELOAD = """
import sys, timm, torch
from safetensors.torch import load_file, save_file
folder, images, features = sys.argv[1:]
model = timm.create_model("local-dir:" + folder, pretrained=True).eval()
with torch.inference_mode():
    save_file({name: model(image).contiguous() for name, image in load_file(images).items()}, features)
"""


def compare(teacher: nn.Module, folder: Path, image_px: int) -> float:
    """The greatest difference between features of `teacher` and of timm's model from `folder`, opened in a process of its own.

    Noise goes in, at the image size of the run and at a larger one that is not square. ExportFailed above `TOLERANCE`.
    """
    patch_px = teacher.patch_embed.feat_ratio(as_scalar=True)
    noise = torch.Generator().manual_seed(0)
    sizes = (image_px, image_px), (image_px + patch_px, image_px + 2 * patch_px)
    images = {f"{height}x{width}": torch.randn(2, 3, height, width, generator=noise) for height, width in sizes}
    with tempfile.TemporaryDirectory() as here:
        save_file(images, Path(here) / "images.safetensors")
        command = [sys.executable, "-c", _RELOAD, str(folder), "images.safetensors", "features.safetensors"]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            log.error(done.stderr)
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ExportFailed(f"timm {timm.__version__} does not open the export: {reason}\nNothing was left of it.")
        reloaded = load_file(Path(here) / "features.safetensors")
    with torch.inference_mode():
        gaps = torch.stack([(teacher(image) - reloaded[size]).abs().max() for size, image in images.items()])
    difference = gaps.max().item()
    if not difference <= TOLERANCE:  # nor is NaN agreement
        raise ExportFailed(
            f"timm opens the export, but its features differ from the teacher's by {difference:.3g}, more than {TOLERANCE:g}.\n"
            "Nothing was left of it."
        )
    return difference


def _tensors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(f"There is no run in {run}: export takes a run's folder, outputs/<study>/<arm>/seed<k>.")
    return yaml.safe_load(path.read_text())


def _checkpoint(run: Path, step: int | None) -> tuple[int, Path]:
    """The step, and the file of its teacher."""
    checkpoints = Checkpoints(run)
    files = {saved: checkpoints.path(saved) / TEACHER for saved in checkpoints.steps()}
    steps = [saved for saved, file in files.items() if file.is_file()]
    if not steps:
        raise UserError(f"{run} has no checkpoint yet: nothing can be exported.")
    if step is not None and step not in steps:
        raise UserError(f"--step {step}: {run} has checkpoints of the steps {', '.join(map(str, steps))}.")
    return (steps[-1], files[steps[-1]]) if step is None else (step, files[step])


def _refuse_other_folder(to: Path) -> None:
    """UserError where `to` is there and is anything but an export: it would be replaced, with all that is in it."""
    if not to.exists():
        return
    names = {path.name for path in to.iterdir()} if to.is_dir() else set()
    if EVA in names and holds_configs_alone(to / EVA):
        names -= {EVA}
    if names != {CONFIG, WEIGHTS, CARD} or "pathssl" not in (read_json(to / CONFIG) or {}):
        raise UserError(f"--to {to} is there and is no export of pathssl: name another folder, or remove it.")


def _one_line(option: str, text: str | None) -> str | None:
    if text is not None and (not text.strip() or not text.isprintable()):
        raise UserError(f"{option} {text!r}: give one line of text.")
    return text
