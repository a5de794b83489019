"""Runs of thirty steps, made only to be measured."""

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.identity import arm_name, run_folder
from pathssl.launch.earlier import CALIBRATION, SIZES, step_key
from pathssl.launch.local import run_queue, visible_gpus
from pathssl.launch.plan import Where

STEPS = 30
_LINE = 0.1  # of them to a line of metrics.jsonl
_SEEDS = 1000  # far from those of studies


def calibrate(jobs: Sequence[Sequence[str]], configs: Sequence[Mapping[str, Any]], where: Where) -> None:
    """Trains a run of each kind, and as many at a time as the study will; what they took is then found by the plan."""
    if where.hardware.name is None:
        raise UserError(
            "--calibrate measures here, and these runs go to a cluster. A short run there does the same: python train.py OVERRIDES "
            f"-m {' '.join(_short(configs[0]))}; this plan finds it then."
        )
    lines, folders = [], []
    together = min(where.together, len(jobs))
    trained = [(list(job), config) for job, config in zip(jobs, configs, strict=True) if config["train"]["patches"]]
    kinds = list({repr(step_key(config)): (job, config) for job, config in trained}.values())
    if not kinds:
        raise UserError("--calibrate measures steps, and these runs take none (train.patches=0): leave it out.")
    for number, (job, config) in enumerate(islice(cycle(kinds), max(len(kinds), together))):
        line = [*job, *_short(config), f"seed={_SEEDS + number}"]
        lines.append([o for o in line if not o.startswith("seed=")] + line[-1:])
        folders.append(
            run_folder({**config, "output_dir": _place(config), "seed": _SEEDS + number}, arm_name(lines[-1]))
        )
    for folder in folders:
        if folder.is_dir():
            shutil.rmtree(folder)  # what it took may have been on another machine, or with other code
    codes = run_queue(
        lines,
        parallel=where.together,
        processes=where.hardware.processes,
        gpus=visible_gpus() if where.hardware.gpu else [],
        threads=configs[0]["train"]["threads"],
        study_folder=str(folders[0].parents[1]),
    )
    if any(codes):
        failed = next(folder for folder, code in zip(folders, codes, strict=True) if code)
        raise UserError(f"A calibration failed, and so would the study. What it said stands above, and in {failed}.")
    for folder in folders:
        _weigh(folder)


def _place(config: Mapping[str, Any]) -> str:
    return str(Path(config["output_dir"]) / CALIBRATION)


def _short(config: Mapping[str, Any]) -> list[str]:
    """The overrides that make a calibration of a run."""
    budget = [
        f"train.patches={STEPS * config['batch']['size']}",
        f"train.log_every={_LINE}",
        "train.checkpoint_every=1.0",
    ]
    return [*budget, "checkpoint.keep_best=null", "logger.wandb=null", f"output_dir={_place(config)}"]


def _weigh(folder: Path) -> None:
    """Leaves of the checkpoints how large they were."""
    sizes = {
        name: max(path.stat().st_size for path in folder.glob(f"checkpoints/step_*/{file}"))
        for name, file in (("teacher", "teacher.safetensors"), ("state", "state.pt"))
    }
    write_atomic(folder / SIZES, json.dumps(sizes))
    shutil.rmtree(folder / "checkpoints")
