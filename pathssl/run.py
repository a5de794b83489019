"""One run, top to bottom: a config becomes parts, the parts train, the folder tells."""

import json
import logging
import os
import platform
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

from pathssl import parts
from pathssl.environment import describe_environment
from pathssl.errors import UserError
from pathssl.files import locked_or_refused, write_atomic
from pathssl.identity import arm_name, config_text, refuse_other_run, run_folder
from pathssl.records import read_json, read_status, write_status
from pathssl.training.optimiser import learning_rate, teacher_momentum
from pathssl.training.tracking import Tracker
from pathssl.training.trainer import Recipe, Trainer

log = logging.getLogger(__name__)


def main(config: DictConfig) -> int:
    """The exit code of train.py: 0, 1 where the run failed, 2 where it was called wrongly (with a sentence on stderr)."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", stream=sys.stdout, force=True
    )
    try:
        run(resolved(config), arm_name(HydraConfig.get().overrides.task))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class Failed(RuntimeError):
    """A run that ended with an error, which its status.json and log.txt hold in full."""


def resolved(config: DictConfig) -> dict[str, Any]:
    """The config as plain values; UserError for a value that must be given and was not."""
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} must be given, as in {error.full_key}=...") from error


def run(config: dict[str, Any], arm: str) -> Path:
    """The folder of the finished run. Where the folder holds a part of this run already, it is finished from there."""
    folder = run_folder(config, arm)
    parts.check(config)
    config["derived"] = derived(config)
    torch.set_num_threads(config["train"]["threads"])
    device = parts.device(config["train"]["device"])
    bf16 = parts.bf16(config["train"]["precision"], device)
    objective, views = parts.objective(config), parts.make(config["augmentation"])
    data, tasks = parts.Data(config), parts.tasks(config)
    config["derived"] |= {
        "precision": "bf16" if bf16 else "fp32",
        "init": parts.file_hash(config["init"]["path"]),
        "slides": data.fingerprint,
        "tasks": {name: parts.task_hash(task) for name, task in tasks.items()},
    }
    text = config_text(config)
    try:
        refuse_other_run(folder, config)
    except UserError as error:
        raise UserError(f"{error}{_slides_lost(folder, data.describe())}") from error
    if (read_status(folder) or {}).get("state") == "finished":
        log.info("%s is finished; nothing to do.", folder)
        return folder
    # The last thing that can be refused: it reads patches. From here on there is a folder, and it tells what happens.
    probes = parts.probes(config, data, tasks)
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"Another process is working in {folder}: wait for it, or stop it first."
    with locked_or_refused(folder / ".lock", busy), _log_file(folder), _Status(folder, config) as status_file:
        write_atomic(folder / "config.yaml", text)
        write_atomic(folder / "environment.json", _json(describe_environment()))
        write_atomic(folder / "data.json", _json(data.describe()))
        parts.draw_pictures(folder / "pictures", data, views)
        tracker = Tracker(
            folder,
            wandb=config["logger"]["wandb"],
            config=config,
            name=f"{arm}/seed{config['seed']}",
            group=str(config["study"]),
        )
        recipe = build_recipe(config)
        _say_what_starts(config, recipe, objective, device, data)
        trainer = Trainer(
            run=folder,
            objective=objective,
            views=views,
            loader=data.loader(),
            probes=probes,
            tracker=tracker,
            recipe=recipe,
            seed=config["seed"],
            device=device,
            bf16=bf16,
            report=status_file.running,
        )
        exit_code = 1
        try:
            trainer.fit()
            exit_code = 0
        finally:
            tracker.close(exit_code)
    log.info("Finished: %s", folder)
    return folder


def _slides_lost(folder: Path, now: Mapping[str, Any]) -> str:
    """A paragraph on the slides that this run began with and that cannot be used any more; empty where there are none."""
    then = read_json(folder / "data.json")
    if then is None:
        return ""
    known = {path for path, _ in then["quarantined"]}
    lost = [f"\n  {path}: {reason}" for path, reason in now["quarantined"] if path not in known]
    if not lost and now["slides"] >= then["slides"]:
        return ""
    text = f"\nThe run began with {then['slides']} slides, and {now['slides']} can be used now."
    return f"{text} Put these back as they were, and the same command goes on:{''.join(lost)}" if lost else text


@contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """Everything logged inside goes to log.txt too, after what earlier starts of the run wrote there."""
    handler = logging.FileHandler(folder / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s  %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def derived(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values that follow from others, computed once and written to the run's config."""
    batch, teacher = config["batch"], config["teacher"]
    scale = batch["size"], batch["reference"], batch["momentum_rule"]
    if batch["size"] < 1 or config["train"]["patches"] < batch["size"]:
        raise UserError(
            f"train.patches={config['train']['patches']} and batch.size={batch['size']}: the budget must hold at least one batch, and a "
            "batch at least one patch."
        )
    total_steps = config["train"]["patches"] // batch["size"]
    return {
        "total_steps": total_steps,
        "patches": total_steps * batch["size"],
        "lr": learning_rate(config["optim"]["base_lr"], batch["size"], batch["reference"], batch["lr_rule"]),
        "teacher_momentum": teacher_momentum(teacher["momentum"], *scale),
        "final_teacher_momentum": teacher_momentum(teacher["final_momentum"], *scale),
    }


def build_recipe(config: Mapping[str, Any]) -> Recipe:
    train, optim, numbers = config["train"], config["optim"], config["derived"]
    return Recipe(
        total_steps=numbers["total_steps"],
        batch_size=config["batch"]["size"],
        lr=numbers["lr"],
        final_lr=config["schedule"]["final_lr"],
        warmup=config["schedule"]["warmup"],
        weight_decay=optim["weight_decay"],
        final_weight_decay=optim["final_weight_decay"],
        momentum=numbers["teacher_momentum"],
        final_momentum=numbers["final_teacher_momentum"],
        betas=tuple(optim["betas"]),
        clip_grad=optim["clip_grad"],
        freeze_last_layer=optim["freeze_last_layer"],
        checkpoint_every=train["checkpoint_every"],
        log_every=train["log_every"],
    )


def _say_what_starts(config, recipe: Recipe, objective, device: torch.device, data: "parts.Data") -> None:
    log.info(
        "%s: %.1f M parameters on %s; %d steps of %d patches = %s patches; learning rate %.3g; teacher momentum %.5g; %d slides.",
        config["model"]["name"],
        sum(p.numel() for p in objective.student["encoder"].parameters()) / 1e6,
        device,
        recipe.total_steps,
        recipe.batch_size,
        f"{config['derived']['patches']:,}",
        recipe.lr,
        recipe.momentum,
        len(data.training_slides),
    )
    for path, reason in data.index.quarantined:
        log.warning("%s is left out: %s", path, reason)


class _Status:
    """Keeps status.json: running inside, then finished, preempted (interrupted) or failed with the traceback."""

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        self.folder, self.step = folder, (read_status(folder) or {}).get("step", 0)
        self.total_steps, self.batch_size = config["derived"]["total_steps"], config["batch"]["size"]

    def running(self, step: int) -> None:
        self.step = step
        self._write("running")

    def __enter__(self) -> "_Status":
        self._write("running")
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None:
            self._write("finished")
        elif isinstance(error, KeyboardInterrupt):
            self._write("preempted")
        else:
            text = "".join(traceback.format_exception(kind, error, trace))
            self._write("failed", text)
            if not isinstance(error, UserError):  # whose sentence says all
                log.error(text)
                raise Failed(f"{self.folder} failed: {error}") from error

    def _write(self, state: str, error: str | None = None) -> None:
        write_status(
            self.folder,
            state,
            step=self.step,
            total_steps=self.total_steps,
            patches_seen=self.step * self.batch_size,
            host=platform.node(),
            job_id=os.environ.get("SLURM_JOB_ID"),
            error=error,
        )
