"""Probes of what is trained already: the checkpoints of runs, by as many jobs as one likes, or any file of weights."""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pathssl import parts, sources
from pathssl.determinism import deterministic
from pathssl.errors import UserError
from pathssl.export import load_teacher
from pathssl.models.encoder import create_encoder
from pathssl.models.weights import create_pretrained, load_weights
from pathssl.probes.evaluate import ProbeOutcome, Probes, fitting
from pathssl.probes.task import Task
from pathssl.records import arm_of, find_runs, metric_key, read_predictions, read_probes, seed_of, write_probe
from pathssl.replay import config_of
from pathssl.schedules import steps_every
from pathssl.training.checkpoints import TEACHER, Checkpoints

log = logging.getLogger(__name__)


def probe_runs(
    folders: Sequence[Path], other: Mapping[str, Any] | None, *, part: tuple[int, int], again: bool
) -> list[dict[str, Any]]:
    """{"run", "step", "task", "results", "new"} for the kept checkpoints of the runs in `folders`, which are then in the runs' folders.

    other: a config whose tasks and protocols are taken; None takes those of each run. part (k, n): the k-th of n shares of the checkpoints
    alone. What is there already stays, unless `again`; so a share that was killed is gone on with by the same command.
    """
    _check(other)
    runs = [run for folder in folders for run in find_runs(folder)]
    if not runs:
        raise UserError(f"There is no run in {', '.join(map(str, folders))}: give outputs/<study> or a run's folder.")
    rows, tasks = [], {}
    for run in runs:
        for step in Checkpoints(run).steps():
            if (
                share_of(run, step, part[1]) == part[0] and Checkpoints(run).path(step).is_dir()
            ):  # a run may drop it meanwhile
                rows += _of_checkpoint(run, step, other, tasks, again)
    return rows


def share_of(run: Path, step: int, count: int) -> int:
    """In which of `count` shares, from 1, a checkpoint is: the same one whatever other checkpoints and runs there are at that moment."""
    config = config_of(run)
    saved = sorted(
        steps_every(config["train"]["checkpoint_every"], config["train"]["patches"] // config["batch"]["size"])
    )
    turn = saved.index(step) if step in saved else step
    return 1 + (zlib.crc32(f"{arm_of(run)}/{seed_of(run)}".encode()) + turn) % count


def probe_weights(path: Path, config: Mapping[str, Any]) -> dict[str, float]:
    """Every number of the tasks and protocols of `config` by metrics.jsonl's keys, for its encoder with the weights in a file."""
    _check(config)
    encoder = create_encoder(config["model"]["name"], dict(config["model"]["args"]))
    loaded = load_weights(encoder, path, strict=config["init"]["strict"])
    log.log(logging.WARNING if loaded.gaps else logging.INFO, "%s", loaded)
    return _outcome(encoder, config, config, sources.tasks(config), with_nulls=True, may_be_trained=True).metrics


def probe_timm(name: str, config: Mapping[str, Any]) -> dict[str, float]:
    """The same for the weights that timm publishes as `name`, on images in the colours that these were trained with."""
    _check(config)
    encoder, loaded = create_pretrained(name, {}, strict=config["init"]["strict"])
    log.log(logging.WARNING if loaded.gaps else logging.INFO, "%s", loaded)
    colours = {key: list(encoder.pretrained_cfg[key]) for key in ("mean", "std")}
    own = {
        **config,
        "augmentation": config["augmentation"] | colours,
        "model": config["model"] | {"name": name, "args": {}},
    }
    return _outcome(encoder, own, config, sources.tasks(config), with_nulls=True, may_be_trained=True).metrics


def _check(config: Mapping[str, Any] | None) -> None:
    if config is not None:
        if not config["task"]:
            raise UserError("There is nothing to probe: name a task, as in task=[folder] task.folder.path=DIR.")
        sources.check_tasks(config)


def _of_checkpoint(
    run: Path, step: int, other: Mapping[str, Any] | None, tasks: dict[str, Task], again: bool
) -> Iterator[dict[str, Any]]:
    """The rows of one checkpoint; tasks: those that were read before, by what their config says."""
    own = config_of(run)
    config = other or own
    known = {found["task"]: found["results"] for found in read_probes(run) if found["step"] == step}
    missing = {}
    for name, block in config["task"].items():
        there = {result.split("/")[0] for result in known.get(name, {})}
        if again or not {*parts.protocol_blocks(config)} <= there:
            key = repr(block)
            tasks[key] = tasks.get(key) or sources.tasks({**config, "task": {name: block}})[name]
            if again or not {*fitting(name, tasks[key], parts.protocols(config))} <= there:
                missing[name] = tasks[key]
    if missing:
        weights = Checkpoints(run).path(step) / TEACHER
        outcome = _outcome(
            load_teacher(own, weights),
            own,
            config,
            missing,
            with_nulls=step == 0,
            may_be_trained=parts.began_trained(own),
        )
        for name, result in outcome.tasks.items():
            seen = step * own["batch"]["size"]
            results, predictions = result.results, result.predictions
            if name in known and not again:  # by other protocols
                results, predictions = known[name] | results, read_predictions(run, step, name) | predictions
            write_probe(run, step=step, patches_seen=seen, task=name, results=results, predictions=predictions)
            known[name] = results
        log.info("%s: step %d probed by %s", run, step, ", ".join(missing))
    for name in config["task"]:
        yield {"run": str(run), "step": step, "task": name, "results": known[name], "new": name in missing}


def _outcome(
    encoder: torch.nn.Module,
    own: Mapping[str, Any],
    config: Mapping[str, Any],
    tasks: Mapping[str, Task],
    *,
    with_nulls: bool,
    may_be_trained: bool,
) -> ProbeOutcome:
    """own: the config that the encoder was trained with, which knows its colours. config: that of tasks and protocols."""
    torch.set_num_threads(config["train"]["threads"])
    deterministic(config["train"]["deterministic"])
    device = parts.device(config["train"]["device"])
    probes = Probes(
        tasks,
        parts.protocols(config),
        held_out_NHWC=None,
        batch_size=config["train"]["probe_batch_size"],
        mean=own["augmentation"]["mean"],
        std=own["augmentation"]["std"],
        random_weights=partial(parts.random_encoder, own) if may_be_trained else None,
        **parts.of_tasks(config),
    )
    return probes.run(encoder.to(device), device=device, with_nulls=with_nulls)


def flat(row: Mapping[str, Any]) -> dict[str, float]:
    """The results of a row by the keys of metrics.jsonl."""
    return {metric_key(row["task"], name): value for name, value in row["results"].items()}
