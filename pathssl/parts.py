"""Config -> what trains: encoder, objective, step, probes and those who watch. Below it there are plain arguments."""

import hashlib
import logging
import pkgutil
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pathssl.augment import MultiCrop
from pathssl.checks import check_patch_size
from pathssl.complaints import task_options
from pathssl.errors import UserError
from pathssl.make import make
from pathssl.models.encoder import create_encoder
from pathssl.models.weights import create_pretrained, load_published, load_weights
from pathssl.probe_records import is_probed
from pathssl.probe_settings import probe_settings, protocol_blocks
from pathssl.probes.evaluate import Probes
from pathssl.probes.feature_set import ByTask, ProbeProtocol
from pathssl.probes.site import SiteTest
from pathssl.probes.stain_shifts import StainShifts
from pathssl.probes.task import Task
from pathssl.seeding import integer_seed
from pathssl.sources import Data, feature_cache
from pathssl.training.recipe import Recipe
from pathssl.training.retention import Retention
from pathssl.training.sentinels import Sentinels
from pathssl.training.step import Step
from pathssl.training.tracking import Tracker

log = logging.getLogger(__name__)


def file_hash(path: str | None) -> str | None:
    """A hash of the file's content."""
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def device(name: str) -> str:
    """cpu or cuda."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"train.device={name} is not one of auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device=cuda, and torch sees no GPU here; train.device=auto takes what there is.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def bf16(precision: str, on: str) -> bool:
    if precision not in ("auto", "bf16", "fp32"):
        raise UserError(f"train.precision={precision} is not one of auto, bf16, fp32.")
    return precision == "bf16" or (precision == "auto" and on == "cuda")


def encoder(config: Mapping[str, Any]) -> nn.Module:
    """The student's encoder, initialised as `init` says from the run's seed."""
    model, init = config["model"], config["init"]
    torch.manual_seed(integer_seed(config["seed"], "init"))
    architecture = model["name"], dict(**model["args"]), model["drop_path"], model["drop_path_rule"]
    strict, pretrained, path, name = init["strict"], init["pretrained"], init["path"], init["name"]
    if pretrained and path is not None:
        raise UserError(f"init.pretrained=true and init.path={path}: an encoder begins with the one or with the other.")
    if name is not None and not pretrained:
        raise UserError(
            f"init.name={name} names weights of timm's or of a hub, and these are init=timm's: give that too."
        )
    if name is not None:
        made = create_encoder(*architecture)
        loaded, colours = load_published(made, name, strict=strict)
        _say_other_colours(config["augmentation"], name, colours)
    elif pretrained:
        made, loaded = create_pretrained(*architecture, strict=strict)
    else:
        made = create_encoder(*architecture)
        loaded = None if path is None else load_weights(made, Path(path), strict=strict)
    if loaded is not None:
        log.log(logging.WARNING if loaded.gaps else logging.INFO, "%s", loaded)
    return made


def _say_other_colours(shown: Mapping[str, Any], name: str, trained: Mapping[str, list[float]]) -> None:
    """A warning where images are shown to weights in other colours than they were trained with."""
    other = {key: value for key, value in trained.items() if list(shown[key]) != value}
    if other:
        said = " ".join(f"augmentation.{key}=[{','.join(f'{x:g}' for x in value)}]" for key, value in other.items())
        log.warning("%s was trained on images in other colours than it is shown here: %s would be those.", name, said)


def objective(config: Mapping[str, Any]) -> nn.Module:
    """The objective around a fresh encoder."""
    made = encoder(config)
    check_patch_size(made, config)
    return make(config["objective"], made)


def probes(config: Mapping[str, Any], data: Data, by_name: Mapping[str, Task]) -> Probes:
    return Probes(
        by_name,
        protocols(config) if by_name else {},
        batch_size=config["train"]["probe_batch_size"],
        mean=config["augmentation"]["mean"],
        std=config["augmentation"]["std"],
        random_weights=partial(random_encoder, config) if began_trained(config) else None,
        settings={name: probe_settings(config, name, task) for name, task in by_name.items()},
        **of_tasks(config),
        **of_held_out(config, data),
    )


def of_held_out(config: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """What is measured on patches of slides that are not trained on: arguments of Probes."""
    settings = config["robustness"]
    site = SiteTest(*data.held_out_owners, folds=settings["site_folds"], c=settings["site_c"])
    return {"held_out_NHWC": data.held_out_patches, "site": site}


def began_trained(config: Mapping[str, Any]) -> bool:
    """Whether training begins with weights that have learned something; else step 0 is random weights itself."""
    return config["init"]["pretrained"] or config["init"]["path"] is not None


def random_encoder(config: Mapping[str, Any]) -> nn.Module:
    """The architecture with weights that have seen nothing, from the run's seed."""
    model = config["model"]
    with torch.random.fork_rng(devices=[]):  # a run's own draws stay what they are
        torch.manual_seed(integer_seed(config["seed"], "null"))
        return create_encoder(model["name"], dict(**model["args"]), model["drop_path"], model["drop_path_rule"])


def of_tasks(config: Mapping[str, Any]) -> dict[str, Any]:
    """How tasks are probed: arguments of Probes."""
    settings = config["robustness"]
    return {
        "stains": StainShifts(settings["stain"], patches=settings["patches"], seed=settings["seed"]),
        "cache": feature_cache(config),
        **config["features"],
    }


def protocols(config: Mapping[str, Any]) -> dict[str, ProbeProtocol | ByTask]:
    return {name: _protocol(name, block, config["task"]) for name, block in protocol_blocks(config).items()}


def _protocol(name: str, block: Mapping[str, Any], tasks: Container[str]) -> ProbeProtocol | ByTask:
    """What a block says, with other settings for the tasks that its `by_task` names: some of `tasks`, or options of conf/task."""
    block = dict(**block)
    others = block.pop("by_task", None) or {}
    _check_by_task(name, block, others, tasks)
    made = make(block)
    return ByTask(made, {task: make({**block, **of_task}) for task, of_task in others.items()}) if others else made


def _check_by_task(name: str, block: Mapping[str, Any], others: Any, tasks: Container[str]) -> None:
    where = f"probe.{name}.by_task"
    if not isinstance(others, Mapping):
        raise UserError(f"{where}={others}: give settings for tasks by their names, as in {{bach: {{KEY: VALUE}}}}.")
    for task, of_task in others.items():
        if task not in tasks and task not in (options := task_options()):
            raise UserError(
                f"{where}.{task}: there is no such task among those of this run and the options of `task`: {', '.join(options)}."
            )
        known = [key for key in block if key != "_target_"]
        wrong = [str(key) for key in of_task if key not in known] if isinstance(of_task, Mapping) else [str(of_task)]
        if wrong:
            raise UserError(
                f"{where}.{task}: {', '.join(wrong)} is no setting of {name}, which has {', '.join(known)}."
            )


def step(
    config: Mapping[str, Any], recipe: Recipe, made: nn.Module, views: MultiCrop, device: torch.device, micro_batch: int
) -> Step:
    """What moves the objective `made` by one step."""
    optim = config["optim"]
    algorithm = dict(**optim["algorithm"])
    return Step(
        made,
        views=views,
        recipe=recipe,
        make_optimiser=partial(pkgutil.resolve_name(algorithm.pop("_target_")), **algorithm),
        layer_decay=optim["layer_decay"],
        patch_embed_lr=optim["patch_embed_lr"],
        micro_batch=micro_batch,
        seed=config["seed"],
        device=device,
        bf16=bf16(config["train"]["precision"], device.type),
        parallel=dict(**config["parallel"]),
    )


def sentinels(config: Mapping[str, Any], made: nn.Module) -> Sentinels:
    return Sentinels(made.prototypes(), **config["sentinel"])


def retention(config: Mapping[str, Any], folder: Path, recipe: Recipe) -> Retention:
    settings = config["checkpoint"]
    awaited = partial(is_probed, folder) if config["probe"]["where"] == "job" else None
    return Retention(
        folder, recipe.checkpoint_steps(), every=settings["keep_every"], best=settings["keep_best"], is_probed=awaited
    )


def save_every_s(config: Mapping[str, Any]) -> float:
    """Seconds between two states that are saved; infinity where checkpoints do."""
    minutes = config["checkpoint"]["state_every_min"]
    return float("inf") if minutes is None else 60 * minutes


@contextmanager
def tracker(config: Mapping[str, Any], folder: Path, arm: str, choices: Mapping[str, Any]) -> Iterator[Tracker]:
    """The tracker of a run, told at the end how the run ended. choices: what was typed or swept."""
    name, group = f"{arm}/seed{config['seed']}", str(config["study"])
    made = Tracker(folder, wandb=config["logger"]["wandb"], config=config, choices=choices, name=name, group=group)
    try:
        yield made
    except BaseException as error:
        made.close(error)
        raise
    made.close()
