"""Probes of what is trained already: the checkpoints of runs, by as many jobs as one likes, or any file of weights."""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathssl import parts, sources
from pathssl.checks import check_probed
from pathssl.determinism import deterministic
from pathssl.errors import UserError
from pathssl.export import load_teacher
from pathssl.leaks import guard_probe
from pathssl.metric_keys import metric_key
from pathssl.models.encoder import create_encoder
from pathssl.models.weights import create_pretrained, load_weights
from pathssl.probe_records import read_predictions, read_probes, write_probe
from pathssl.probe_settings import probe_settings, refuse_other_settings, together
from pathssl.probes.evaluate import ProbeOutcome, Probes, fitting
from pathssl.probes.feature_set import ProbeProtocol
from pathssl.probes.site import SiteTest
from pathssl.probes.task import Task
from pathssl.records import arm_of, find_runs, seed_of, write_tasks
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


def probe_weights(path: Path, config: Mapping[str, Any], *, held_out: bool = False) -> dict[str, float]:
    """Every number of the tasks and protocols of `config` by metrics.jsonl's keys, for its encoder with the weights in a file.

    held_out: RankMe, ODCorr and what else is measured on held-out patches of the config's slides, too.
    """
    _check(config, held_out)
    encoder = create_encoder(config["model"]["name"], dict(config["model"]["args"]))
    loaded = load_weights(encoder, path, strict=config["init"]["strict"])
    colours = config["augmentation"]
    log.info("Images are shown with mean %s and std %s: augmentation.mean and .std.", colours["mean"], colours["std"])
    log.log(logging.WARNING if loaded.gaps else logging.INFO, "%s", loaded)
    return _of_weights(encoder, config, config, held_out)


def _of_weights(encoder: torch.nn.Module, own: Mapping[str, Any], config: Mapping[str, Any], held_out: bool) -> dict:
    more = parts.of_held_out(config, sources.Data(config)) if held_out else {}
    tasks = sources.tasks(config)
    return _outcome(encoder, own, config, tasks, with_nulls=True, may_be_trained=True, **more).metrics


def probe_timm(name: str, config: Mapping[str, Any], *, held_out: bool = False) -> dict[str, float]:
    """The same for the weights that timm publishes as `name`, on images in the colours that these were trained with."""
    _check(config, held_out)
    encoder, loaded = create_pretrained(name, {}, strict=config["init"]["strict"])
    log.log(logging.WARNING if loaded.gaps else logging.INFO, "%s", loaded)
    colours = {key: list(encoder.pretrained_cfg[key]) for key in ("mean", "std")}
    own = {
        **config,
        "augmentation": config["augmentation"] | colours,
        "model": config["model"] | {"name": name, "args": {}},
    }
    return _of_weights(encoder, own, config, held_out)


def _check(config: Mapping[str, Any] | None, held_out: bool = False) -> None:
    if config is not None:
        if not config["task"] and not held_out:
            raise UserError("There is nothing to probe: name a task, as in task=[folder] task.folder.path=DIR.")
        sources.check_tasks(config)


def _of_checkpoint(
    run: Path, step: int, other: Mapping[str, Any] | None, tasks: dict[str, Task], again: bool
) -> Iterator[dict[str, Any]]:
    """The rows of one checkpoint; tasks: those that were read before, by what their config says."""
    own = config_of(run)
    config = other or _complete(run, own)
    known = {found["task"]: found for found in read_probes(run) if found["step"] == step}
    encoder = None
    for name, block in config["task"].items():
        key = repr(block)
        tasks[key] = tasks.get(key) or sources.tasks({**config, "task": {name: block}})[name]
        task, before = tasks[key], None if again else known.get(name)
        wanted, settings = parts.protocols(config), probe_settings(config, name, task)
        if before is not None:
            refuse_other_settings(f"{run}, step {step}, task {name},", before.get("made_with"), settings)
            settings = together(before.get("made_with"), settings)
            there = {result.split("/")[0] for result in before["results"]}
            wanted = {protocol: made for protocol, made in wanted.items() if protocol not in there}
        if missing := fitting(name, task, wanted, or_none=before is not None):
            guard_probe(run, own, config, name, task)
            encoder = encoder or load_teacher(own, Checkpoints(run).path(step) / TEACHER)
            nulls = {"with_nulls": step == 0, "may_be_trained": parts.began_trained(own)}
            found = _outcome(encoder, own, config, {name: task}, missing, **nulls).tasks[name]
            results, predictions = found.results, found.predictions
            if before is not None:
                results = before["results"] | results
                predictions = _joined(
                    read_predictions(run, step, name), predictions, f"{run}, step {step}, task {name}"
                )
            place = {"step": step, "patches_seen": step * own["batch"]["size"], "task": name}
            write_tasks(run, {name: task.describe()})
            write_probe(run, **place, results=results, predictions=predictions, made_with=settings)
            known[name] = {"results": results}
            log.info("%s: step %d probed by %s: %s", run, step, name, ", ".join(missing))
        yield {"run": str(run), "step": step, "task": name, "results": known[name]["results"], "new": bool(missing)}


def _complete(run: Path, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run's config; UserError where an earlier version made it, which had not all settings of probes."""
    lacking = [key for key in ("features", "robustness", "feature_cache_mib", "leakage") if key not in own]
    lacking += [] if "where" in own["probe"] else ["probe.where"]
    if lacking:
        raise UserError(
            f"{run} was made by an earlier pathssl: its config does not say {', '.join(lacking)}. Name what is to be probed, as in "
            "task=[folder] task.folder.path=DIR, and the rest is as today's configs have it."
        )
    return own


def _joined(there: Mapping[str, np.ndarray], here: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """The predictions of several protocols for the same samples."""
    for key in ("classes", "split", "ids", "groups", "labels"):
        if key in here and not np.array_equal(there.get(key), here[key]):
            raise UserError(f"{where}: the {key} of what was probed before are others. Probe all of it again: --again.")
    return {**there, **here}


def _outcome(
    encoder: torch.nn.Module,
    own: Mapping[str, Any],
    config: Mapping[str, Any],
    tasks: Mapping[str, Task],
    protocols: Mapping[str, ProbeProtocol] | None = None,
    *,
    with_nulls: bool,
    may_be_trained: bool,
    held_out_NHWC: np.ndarray | None = None,
    site: SiteTest | None = None,
) -> ProbeOutcome:
    """own: the config that the encoder was trained with, which knows its colours. config: that of tasks, and of protocols where these are
    not given.
    """
    check_probed(encoder, config)
    torch.set_num_threads(config["train"]["threads"])
    deterministic(config["train"]["deterministic"])
    device = parts.device(config["train"]["device"])
    probes = Probes(
        tasks,
        parts.protocols(config) if protocols is None else protocols,
        held_out_NHWC=held_out_NHWC,
        site=site,
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
