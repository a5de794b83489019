"""One run, top to bottom: a config becomes parts, the parts train, the folder tells."""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from torch import nn

from pathssl import distributed, parts, sources
from pathssl.augment import MultiCrop
from pathssl.checks import check, check_held_out, check_passes, check_probed
from pathssl.compute import flops_a_patch
from pathssl.determinism import deterministic
from pathssl.distributed import ElsewhereError, check_batch, exit_code, from_main, is_main, main_first, world_size
from pathssl.environment import describe_environment
from pathssl.errors import CALLED_WRONGLY, INTERRUPTED, UserError
from pathssl.files import locked_or_refused, write_atomic
from pathssl.identity import arm_name, choices, config_text, refuse_other_run, run_folder
from pathssl.leakage.guard import act
from pathssl.leaks import find_leaks, write_leaks
from pathssl.lifecycle import Failed, Sent, Status, log_file
from pathssl.make import make
from pathssl.probe_process import say_where, start_probes
from pathssl.probes.task import Task
from pathssl.records import read_json, read_status, write_compute, write_tasks
from pathssl.training.interrupt import Interrupted
from pathssl.training.journal import Journal
from pathssl.training.optimiser import learning_rate, teacher_momentum
from pathssl.training.recipe import Recipe
from pathssl.training.tracking import ended_by_agent, last_saved_step, of_agent
from pathssl.training.trainer import Trainer

log = logging.getLogger(__name__)


def main(config: DictConfig) -> int:
    """The exit code of train.py: 0, 1 where the run failed, 2 where it was called wrongly, 75 where it was stopped and can go on (each
    with a sentence on stderr); of a process among several, see `distributed.exit_code`.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", stream=sys.stdout, force=True
    )
    try:
        typed = HydraConfig.get().overrides.task
        run(resolved(config), arm_name(typed), choices(typed))
    except UserError as error:
        print(error, file=sys.stderr)
        return exit_code(CALLED_WRONGLY, error)
    except (Failed, ElsewhereError) as error:
        print(error, file=sys.stderr)
        return exit_code(1, error.__cause__)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 0 if ended_by_agent(stopped) else INTERRUPTED
    except KeyboardInterrupt:
        print("Stopped at once; the same command goes on from the last saved state.", file=sys.stderr)
        return INTERRUPTED
    return 0


def resolved(config: DictConfig) -> dict[str, Any]:
    """The config as plain values; UserError for a value that must be given and was not."""
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} must be given, as in {error.full_key}=...") from error


def run(config: dict[str, Any], arm: str, choices: Mapping[str, Any] | None = None) -> Path:
    """The folder of the finished run. Where the folder holds a part of this run already, it is finished from there.

    choices: the overrides by name, for who watches.
    """
    with Sent(run_folder(config, arm)):
        check(config)
        sources.check_tasks(config)
        config["derived"] = derived(config)
        torch.set_num_threads(config["train"]["threads"])
        kind = parts.device(config["train"]["device"])
        deterministic(config["train"]["deterministic"])
        device = distributed.start(kind)
        logging.getLogger().setLevel(logging.INFO if is_main() else logging.WARNING)
        folder = _run(config, arm, choices or {}, device)
        distributed.stop()
    return folder


def _run(config: dict[str, Any], arm: str, choices: Mapping[str, Any], device: torch.device) -> Path:
    """As `run`, in one of the processes that train the model."""
    folder, late = run_folder(config, arm), config["probe"]["where"] == "job"
    bf16 = parts.bf16(config["train"]["precision"], device.type)
    micro_batch = check_batch(config["batch"]["size"], config["parallel"]["accumulate"])
    check_passes(config, micro_batch)
    with main_first():  # who writes indices and cohorts that the others then find
        objective, views, data, tasks = _made_of(config, folder, bf16)
        text = config_text(config)
    if from_main((read_status(folder) or {}).get("state") == "finished"):
        log.info("%s is finished; nothing to do. %s", folder, _what_next(folder))
        if is_main() and of_agent():
            _tell_agent(config, folder, arm, choices)
        return folder
    gpu = distributed.free_gpu(device) if late else None
    with ExitStack() as stack:
        probes = tracker = leaks = None
        with main_first():
            if is_main():
                # The last things that can be refused: they read patches. From here on there is a folder, and it tells what happens.
                if config["leakage"]["on_overlap"] != "ignore":
                    leaks = find_leaks(folder, config, tasks, lambda: data).of(tasks)
                    act(leaks, config["leakage"]["on_overlap"])
                probes = parts.probes(config, data, tasks)
                folder.mkdir(parents=True, exist_ok=True)
                busy = f"Another process is working in {folder}: wait for it, or stop it first."
                stack.enter_context(locked_or_refused(folder / ".lock", busy))
                stack.enter_context(log_file(folder))
        status = stack.enter_context(Status(folder, config))
        recipe = build_recipe(config)
        if is_main():
            write_atomic(folder / "config.yaml", text)
            write_atomic(folder / "environment.json", _json(describe_environment() | {"processes": world_size()}))
            write_compute(folder, flops_per_patch=flops_a_patch(config), processes=world_size())
            write_atomic(folder / "data.json", _json(data.describe()))
            write_tasks(folder, {name: task.describe() for name, task in tasks.items()})
            if leaks is not None:
                write_leaks(folder, leaks)
            sources.draw_pictures(folder / "pictures", data, views)
            tracker = stack.enter_context(parts.tracker(config, folder, arm, choices))
            tracker.log_again(last_saved_step(folder))
            _say_what_starts(config, recipe, objective, device, data, micro_batch)
            if late:
                say_where(folder, gpu)
        sentinels = parts.sentinels(config, objective)
        Trainer(
            run=folder,
            step=parts.step(config, recipe, objective, views, device, micro_batch),
            loader=data.loader(),
            journal=Journal(
                folder,
                total_steps=recipe.total_steps,
                device=device,
                probes=probes,
                tracker=tracker,
                sentinels=sentinels,
                report=status.running,
                late=late,
            ),
            sentinels=sentinels,
            keep=parts.retention(config, folder, recipe),
            save_every_s=parts.save_every_s(config),
            probe_late=partial(start_probes, folder, gpu=gpu) if late else None,
        ).fit()
    if is_main() and late:
        start_probes(folder, gpu=gpu, last=True)  # one that ended before does not know that the run is finished
    log.info("Finished: %s. %s", folder, _what_next(folder))
    return folder


def _what_next(folder: Path) -> str:
    return f"What it came to: python -m pathssl report {folder.parents[1]}"


def _made_of(
    config: dict[str, Any], folder: Path, bf16: bool
) -> tuple[nn.Module, MultiCrop, sources.Data, dict[str, Task]]:
    """The objective, the views, the slides and the tasks; the config then says what they came to. UserError for what they cannot be, and
    where `folder` holds a run of others.
    """
    objective, views = parts.objective(config), make(config["augmentation"])
    check_held_out(objective.student.encoder, config)
    check_probed(objective.student.encoder, config)
    data, tasks = sources.Data(config), sources.tasks(config)
    config["derived"] |= {
        "precision": "bf16" if bf16 else "fp32",
        "init": parts.file_hash(config["init"]["path"]),
        "slides": data.fingerprint,
        "tasks": {name: sources.task_hash(task) for name, task in tasks.items()},
    }
    try:
        refuse_other_run(folder, config)
    except UserError as error:
        raise UserError(f"{error}{_slides_lost(folder, data.describe())}") from error
    return objective, views, data, tasks


def _tell_agent(config: Mapping[str, Any], folder: Path, arm: str, choices: Mapping[str, Any]) -> None:
    """An agent may draw what is finished: its W&B run is told the results again."""
    with parts.tracker(config, folder, arm, choices) as tracker:
        tracker.log_again(config["derived"]["total_steps"])
        if config["probe"]["where"] == "job":
            tracker.log_late()


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


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def derived(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values that follow from others, computed once and written to the run's config."""
    batch, teacher = config["batch"], config["teacher"]
    scale = batch["size"], batch["reference"], batch["momentum_rule"]
    if batch["size"] < 1 or 0 < config["train"]["patches"] < batch["size"]:
        raise UserError(
            f"train.patches={config['train']['patches']} and batch.size={batch['size']}: the budget must hold at least one batch (or 0: "
            "nothing is trained, and step 0 is probed), and a batch at least one patch."
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
        clip_grad=optim["clip_grad"],
        clip_rule=optim["clip_rule"],
        freeze_last_layer=optim["freeze_last_layer"],
        checkpoint_every=train["checkpoint_every"],
        log_every=train["log_every"],
    )


def _say_what_starts(
    config, recipe: Recipe, objective, device: torch.device, data: "sources.Data", micro_batch: int
) -> None:
    if recipe.total_steps == 0:
        log.info("train.patches=0: nothing is trained, and the encoder is probed as it begins.")
    processes = "1 process" if world_size() == 1 else f"{world_size()} processes ({config['parallel']['mode']})"
    log.info(
        "%s: %.1f M parameters, %s on %s, %s; %s patches to see in %d steps of %d (%d at a time in each process); learning rate %.3g; "
        "teacher momentum %.5g; %d slides.",
        config["model"]["name"],
        sum(p.numel() for p in objective.student.encoder.parameters()) / 1e6,
        processes,
        torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        config["derived"]["precision"],
        f"{config['derived']['patches']:,}",
        recipe.total_steps,
        recipe.batch_size,
        micro_batch,
        recipe.lr,
        recipe.momentum,
        len(data.training_slides),
    )
    for path, reason in data.index.quarantined:
        log.warning("%s is left out: %s", path, reason)
    for k in data.too_coarse:
        log.warning(
            "%s is not trained on: scanned at %.3g um per pixel, it is too coarse for every magnification asked (%s).",
            data.index.paths[k],
            data.index.mpp[k],
            ", ".join(data.sampler.magnification.names()),
        )
