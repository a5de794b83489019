"""What probing costs beside the forward passes that it needs, and what eva's protocols cost and give beside eva itself."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathssl import parts, sources
from pathssl.bench.rounds import Contender, alternate, report, table
from pathssl.errors import UserError
from pathssl.make import make
from pathssl.metrics.bootstrap import balanced_accuracies, interval
from pathssl.probes.eva import Eva
from pathssl.probes.evaluate import Probes
from pathssl.probes.feature_set import FeatureSet
from pathssl.probes.features import extract

_EVA = ("eva", "eva_2024")
_METRICS = ("val/balanced_accuracy", "test/balanced_accuracy")
# What eva calls the measures of the final figures and of the choice.
_THEIRS = {("balanced_accuracy", True): "BinaryBalancedAccuracy", ("accuracy", True): "BinaryAccuracy"}
_THEIRS |= {("balanced_accuracy", False): "MulticlassAccuracy"}
_PEER = Path(__file__).with_name("eva_peer.py")


def bench_probe(config: dict[str, Any], *, rounds: int, eva: Path | None, steps: int) -> dict[str, Any]:
    """The answer of `bench probe` for the encoder, tasks and protocols of a run's config.

    eva: the Python of an environment with kaiko-eva; both then train the same heads for `steps` steps on the same features.
    """
    if not config["task"]:
        raise UserError(
            "What is probed? Give tasks: bench probe 'task=[synthetic]', or task=[folder] task.folder.path=DIR."
        )
    if eva is not None and not (eva.is_file() and os.access(eva, os.X_OK)):
        raise UserError(f"--eva {eva}: give the Python of an environment that has kaiko-eva, such as ~/eva/bin/python.")
    sources.check_tasks(config)
    device = parts.device(config["train"]["device"])
    torch.set_num_threads(config["train"]["threads"])
    encoder, tasks = parts.encoder(config).to(device), sources.tasks(config)
    colours = {"mean": config["augmentation"]["mean"], "std": config["augmentation"]["std"]}
    batch = config["train"]["probe_batch_size"]
    features: dict[str, FeatureSet] = {}

    def forward(_: int) -> float:
        """The passes alone; what they give is kept."""
        start_s = time.perf_counter()
        for name, task in tasks.items():
            features[name] = task.feature_set(extract(encoder, task.batches(batch), device=device, **colours))
        return time.perf_counter() - start_s

    def probe(_: int) -> float:
        probes = Probes(tasks, parts.protocols(config), held_out_NHWC=None, batch_size=batch, **colours)
        start_s = time.perf_counter()
        probes.run(encoder, device=device, with_nulls=False)
        return time.perf_counter() - start_s

    images = sum(len(task) for task in tasks.values())
    for task in tasks.values():  # decoded once, for all contenders alike
        for _ in task.batches(batch):
            pass
    setting = f"{images} images, {config['model']['name']}, {config['train']['threads']} threads, {device}"
    figures = alternate(
        [
            Contender("forward", f"{setting}: the passes alone", "s", forward),
            Contender("probe", f"{setting}: with {', '.join(parts.protocol_blocks(config))}", "s", probe),
        ],
        rounds,
    )
    ratios, parity, missing = {"probe/forward": figures.ratio("probe", "forward")}, [], {}
    beside = [_interval(task, features[task], name, steps) for task in tasks for name in ("linear", *_EVA)]
    if eva is None:
        missing["eva"] = "--eva names no Python that has kaiko-eva"
    else:
        parity = [_beside_eva(eva, task, features[task], name, steps) for task in tasks for name in _EVA]
        seconds = {who: sum(row[f"{who}_s"] for row in parity) for who in ("eva", "pathssl")}
        ratios["probe/eva"] = seconds["eva"] / seconds["pathssl"]
    answer = report("probe", figures, ratios, missing, protocols=beside, parity=parity)
    return {**answer, "text": table(answer, [*_said(beside), *_lines(parity)])}


def _interval(task: str, features: FeatureSet, name: str, steps: int) -> dict[str, Any]:
    """Balanced accuracy of one of our protocols on the final split, with its interval over cases; eva's for `steps` steps, CPU."""
    block = _block(name, task) | ({"steps": steps, "device": "cpu"} if name in _EVA else {})
    start_s = time.perf_counter()
    result = make(block).run(features)
    seconds = time.perf_counter() - start_s
    split, samples = features.final()
    predictions_N = result.scores[split].argmax(axis=1)
    draws_S = balanced_accuracies(samples.labels_N, predictions_N, samples.groups_N, len(features.classes))
    low, high = interval(draws_S)
    found = {"balanced_accuracy": result.results[f"{split}/balanced_accuracy"], "low": low, "high": high}
    return {"task": task, "protocol": name, "split": split, **found, "seconds": seconds}


def _said(beside: list[Mapping[str, Any]]) -> list[str]:
    return [
        f"{row['task']} {row['protocol']} {row['split']}: {row['balanced_accuracy']:.4f} (95 % over cases {row['low']:.4f} to "
        f"{row['high']:.4f}), {row['seconds']:.1f} s"
        for row in beside
    ]


def _beside_eva(python: Path, task: str, features: FeatureSet, name: str, steps: int) -> dict[str, Any]:
    """Seconds and accuracies of all runs of one protocol, ours and eva's."""
    block = {**_block(name, task), "steps": steps, "device": "cpu"}
    protocol: Eva = make(block)
    start_s = time.perf_counter()
    ours = protocol.run(features)
    ours_s = time.perf_counter() - start_s
    runs = _eva_runs(python, features, protocol)
    row = {"task": task, "protocol": name, "steps": steps, "runs": protocol.runs, "pathssl_s": ours_s}
    row["eva_s"] = sum(run["seconds"] for run in runs)
    for key in _METRICS:
        split = key.split("/")[0]
        theirs = [run[f"{split}/{_THEIRS['balanced_accuracy', len(features.classes) == 2]}"] for run in runs]
        mine = ours.arrays[f"runs_{key.replace('/', '_')}"].tolist()
        difference, sd = float(np.mean(mine) - np.mean(theirs)), float(np.std(theirs, ddof=1))
        row[key] = {
            "pathssl": mine,
            "eva": theirs,
            "difference": difference,
            "eva_sd": sd,
            "within_one_sd": abs(difference) <= sd,
        }
    return row


def _block(name: str, task: str) -> dict[str, Any]:
    """The protocol as conf/probe has it for a task of this name."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from pathssl.complaints import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        block = OmegaConf.to_container(compose("config", [f"probe=[{name}]"]), resolve=True)["probe"][name]
    return block | block.pop("by_task", {}).get(task, {})


def _eva_runs(python: Path, features: FeatureSet, protocol: Eva) -> list[dict[str, float]]:
    """What eva_peer.py tells of each run."""
    optimisers = {
        "sgd": ("SGD", {"lr": protocol.lr, "momentum": protocol.momentum, "weight_decay": protocol.weight_decay}),
        "adamw": ("AdamW", {"lr": protocol.lr}),  # the rest is torch's default, as in eva's configurations
    }
    optimiser, arguments = optimisers[protocol.optimiser]
    settings = {
        "runs": protocol.runs,
        "seed": protocol.seed,
        "classes": len(features.classes),
        "dim": features.train.features_ND.shape[1],
        "optimiser": optimiser,
        "optimiser_arguments": arguments,
        "schedule": protocol.schedule,
        "steps": protocol.steps,
        "patience": protocol.looks(len(features.train)),
        "monitor": _THEIRS[protocol.measure(len(features.classes)), len(features.classes) == 2],
        "batch": protocol.batch,
        # eva's four workers for each loader take longer than none where features are this small
        "loader": {"num_workers": 0, "persistent_workers": False, "prefetch_factor": None},
    }
    with tempfile.TemporaryDirectory() as folder:
        _write_for_eva(Path(folder), features)
        Path(folder, "settings.json").write_text(json.dumps(settings))
        # isolated: eva's environment, and nothing of ours
        command = [str(python), "-I", str(_PEER), folder, f"{folder}/settings.json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"--eva {python}: eva did not run: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(done.stdout.splitlines()[-1])


def _write_for_eva(folder: Path, features: FeatureSet) -> None:
    rows = ["origin,embeddings,target,split"]
    for name, split in {"train": features.train, **features.evaluated()}.items():
        for number, vector_D in enumerate(split.features_ND):
            file = f"{name}_{number}.pt"
            torch.save(torch.from_numpy(vector_D.copy()), folder / file)
            rows.append(f"{split.ids_N[number]},{file},{split.labels_N[number]},{name}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def _lines(parity: list[Mapping[str, Any]]) -> list[str]:
    lines = []
    for row in parity:
        for key in _METRICS:
            found = row[key]
            lines.append(
                f"{row['task']} {row['protocol']} {key}: pathssl {np.mean(found['pathssl']):.4f}, eva {np.mean(found['eva']):.4f}, "
                f"difference {found['difference']:+.4f}, eva's own sd over runs {found['eva_sd']:.4f}"
            )
        lines.append(f"{row['task']} {row['protocol']}: {row['runs']} runs of {row['steps']} steps took eva {row['eva_s']:.0f} s, "
                     f"pathssl {row['pathssl_s']:.1f} s")  # fmt: skip
    return lines
