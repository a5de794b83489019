"""Probes beside training (probe.where=job): a process of its own for the checkpoints of one run, whose results land at their steps."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch

from pathssl import parts, sources
from pathssl.determinism import deterministic
from pathssl.errors import UserError
from pathssl.export import load_teacher
from pathssl.files import NO_LOCKS, locked, write_atomic
from pathssl.probe_process import ENDING, unprobed
from pathssl.probe_records import token_picture_of, write_probe
from pathssl.records import read_status
from pathssl.replay import config_of
from pathssl.run import build_recipe
from pathssl.training.checkpoints import TEACHER, Checkpoints
from pathssl.training.tracking import untold

log = logging.getLogger(__name__)
_WAITING, _WORKING = ".probes.waiting", ".probes.lock"


def probe_late(run: Path) -> list[int]:
    """The steps that were probed now: all that are there and were not, and those that came meanwhile.

    Of several processes for one run one works, one waits, and the others see that they are not needed. What a killed one had not finished
    is probed from the beginning of that checkpoint. Who finds the run finished, and nothing left, does what is to be done at its end.
    """
    config = config_of(run)
    if config["probe"]["where"] != "job":
        raise UserError(
            f"{run} probes its checkpoints itself (probe.where={config['probe']['where']}); leave --late out."
        )
    with _turn(run) as mine:
        if not mine:
            return []
        ends = run / ENDING
        ends.unlink(missing_ok=True)
        done = _probe_all(run, config)
        if job := os.environ.get("SLURM_JOB_ID"):
            write_atomic(ends, f"{job}\n")  # from now on the run sends another one for what is new; so a last look
            done += _probe_all(run, config)
        _ended(run, config)
    return done


def _probe_all(run: Path, config: Mapping[str, Any]) -> list[int]:
    """Probes until nothing is left; the steps."""
    done: list[int] = []
    if not unprobed(run):
        return done
    torch.set_num_threads(config["train"]["threads"])
    deterministic(config["train"]["deterministic"])
    # Beside a run that insists on its GPU there may be none for this process.
    device = parts.device("cpu" if config["train"]["device"] == "cpu" else "auto")
    log.info("%s: probes are made on %s", run, device)
    data, tasks = sources.Data(config), sources.tasks(config)
    probes = parts.probes(config, data, tasks)
    while steps := unprobed(run):
        step = steps[0]
        start_s = time.perf_counter()
        try:
            encoder = load_teacher(config, Checkpoints(run).path(step) / TEACHER).to(device)
        except FileNotFoundError:
            if step in unprobed(run):  # the checkpoint is there, without a teacher
                raise
            continue  # someone has removed it, or probed it
        outcome = probes.run(encoder, device=device, with_nulls=step == 0)
        place = {"step": step, "patches_seen": step * config["batch"]["size"]}
        for task, result in outcome.tasks.items():
            kept = {"results": result.results, "predictions": result.predictions, "made_with": result.made_with}
            write_probe(run, **place, task=task, **kept)
        probes.draw(token_picture_of(run), encoder, device=device)
        unsupervised = {
            key.split("/", 1)[1]: value for key, value in outcome.metrics.items() if key.startswith("unsupervised/")
        }
        # The last: from now on the checkpoint is probed.
        write_probe(run, **place, task="unsupervised", results=unsupervised, probe_time_s=time.perf_counter() - start_s)
        log.info("%s: step %d probed", run, step)
        done.append(step)
    return done


def _ended(run: Path, config: Mapping[str, Any]) -> None:
    """After the run's last checkpoint: removes those that stayed only to be probed, and tells W&B the results that the run could not."""
    if (read_status(run) or {}).get("state") != "finished":
        return
    checkpoints = Checkpoints(run)
    checkpoints.tidy(parts.retention(config, run, build_recipe(config)))
    checkpoints.wait()
    if config["logger"]["wandb"] and untold(run):
        with parts.tracker(config, run, run.parent.name, {}) as tracker:
            tracker.log_late()


@contextmanager
def _turn(run: Path) -> Iterator[bool]:
    """Whether it is this process that works now; waits for the one that does. False at once where another one waits already."""
    with open(run / _WAITING, "a") as waiting:
        waits = _waits(waiting)
        if waits is None:
            log.warning("%s: this disk has no locks, so that several processes may probe the same.", run)
        if not waits:
            yield waits is None
            return
        with locked(run / _WORKING):
            fcntl.flock(waiting, fcntl.LOCK_UN)  # who comes now waits for this one
            yield True


def _waits(waiting: TextIO) -> bool | None:
    """Whether this process is the one that waits now; None where the file system has no locks."""
    try:
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True
