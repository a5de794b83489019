"""Probes beside training (probe.where=job): a process of its own for the checkpoints of one run, whose results land at their steps."""

import fcntl
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pathssl import parts, sources
from pathssl.errors import UserError
from pathssl.export import load_teacher
from pathssl.files import locked
from pathssl.records import is_probed, read_status, write_probe
from pathssl.replay import config_of
from pathssl.run import build_recipe
from pathssl.training.checkpoints import TEACHER, Checkpoints

log = logging.getLogger(__name__)
_WAITING, _WORKING = ".probes.waiting", ".probes.lock"


def unprobed(run: Path) -> list[int]:
    """The steps of checkpoints that are there and not probed."""
    return [step for step in Checkpoints(run).steps() if not is_probed(run, step)]


def probe_late(run: Path) -> list[int]:
    """The steps that were probed now: all that are there and were not, and those that came meanwhile.

    Of several processes for one run one works, one waits, and the others see that they are not needed. What a killed one had not finished
    is probed from the beginning of that checkpoint.
    """
    config = config_of(run)
    if config["probe"]["where"] != "job":
        raise UserError(
            f"{run} probes its checkpoints itself (probe.where={config['probe']['where']}); leave --late out."
        )
    done: list[int] = []
    with _turn(run) as mine:
        if not mine or not unprobed(run):
            return done
        torch.set_num_threads(config["train"]["threads"])
        device = parts.device(config["train"]["device"])
        data, tasks = sources.Data(config), sources.tasks(config)
        probes = parts.probes(config, data, tasks)
        while steps := unprobed(run):
            step = steps[0]
            start_s = time.perf_counter()
            encoder = load_teacher(config, Checkpoints(run).path(step) / TEACHER).to(device)
            outcome = probes.run(encoder, device=device, with_nulls=step == 0)
            place = {"step": step, "patches_seen": step * config["batch"]["size"]}
            for task, result in outcome.tasks.items():
                write_probe(
                    run,
                    **place,
                    task=task,
                    results=result.results,
                    predictions=result.predictions,
                    made_with=result.made_with,
                )
            unsupervised = {
                key.split("/", 1)[1]: value for key, value in outcome.metrics.items() if key.startswith("unsupervised/")
            }
            # The last: from now on the checkpoint is probed.
            write_probe(
                run, **place, task="unsupervised", results=unsupervised, probe_time_s=time.perf_counter() - start_s
            )
            log.info("%s: step %d probed", run, step)
            done.append(step)
        _ended(run, config)
    return done


def _ended(run: Path, config: Mapping[str, Any]) -> None:
    """After the run's last checkpoint: removes those that stayed only to be probed, and tells W&B the results that the run could not."""
    if (read_status(run) or {}).get("state") != "finished":
        return
    checkpoints = Checkpoints(run)
    checkpoints.tidy(parts.retention(config, run, build_recipe(config)))
    checkpoints.wait()
    if config["logger"]["wandb"]:
        with parts.tracker(config, run, run.parent.name, {}) as tracker:
            tracker.log_late()


@contextmanager
def _turn(run: Path) -> Iterator[bool]:
    """Whether it is this process that works now; waits for the one that does. False at once where another one waits already."""
    with open(run / _WAITING, "a") as waiting:
        try:
            fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        with locked(run / _WORKING):
            fcntl.flock(waiting, fcntl.LOCK_UN)  # who comes now waits for this one
            yield True
