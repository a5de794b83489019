"""How fast patches are trained on: our step, and the trainer's loop around it, beside the bare model."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch

from pathssl import parts
from pathssl.bench.rounds import alternate, cores, pinned, report, table
from pathssl.bench.step_contenders import Steps
from pathssl.bench.time_split import time_split
from pathssl.checks import check, check_passes
from pathssl.determinism import deterministic
from pathssl.distributed import check_batch
from pathssl.errors import UserError
from pathssl.run import derived

_STEPS = 8  # a round
_AIM = 0.1  # at most this much longer than the bare model
_LEFT_OUT = {
    "lightly-train": "left out: it trains from image files through its own loader, so that no step of it can be timed alone"
}


def bench_step(config: dict[str, Any], *, rounds: int, patches: int | None) -> dict[str, Any]:
    """The answer of `bench step` for a run's config, of which no slide is read. patches: a round (default: eight batches)."""
    check(config)
    config["derived"] = derived(config)
    size = config["batch"]["size"]
    if config["parallel"]["accumulate"] != 1:
        raise UserError(
            "parallel.accumulate: the bare model takes a batch at once. A smaller batch.size takes less memory."
        )
    check_passes(config, check_batch(size, 1))
    device, threads = torch.device(parts.device(config["train"]["device"])), torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled()
    deterministic(False)
    torch.set_num_threads(config["train"]["threads"])
    cpus = cores(config["train"]["threads"]) if device.type == "cpu" else None
    try:
        with nullcontext() if cpus is None else pinned(cpus):
            bench = Steps(config, device, -(-patches // size) if patches else _STEPS)
            figures = alternate(bench.contenders(), rounds)
            split = time_split(bench.ours, bench.take, bench.synchronise, bench.steps, rounds)
    finally:
        torch.set_num_threads(threads)
        deterministic(before)
    ratios = {
        "step/bare": figures.ratio("step", "bare"),
        "loop/bare": figures.ratio("loop", "bare"),
        "step with views/bare": figures.ratio("step with views", "bare"),
        **{f"{name}/bare": figures.ratio(name, "bare") for name in bench.others},
        "step/published": figures.ratio("step", "published"),
    }
    missing = dict(_LEFT_OUT)
    used = bench.used(figures)
    if not used:
        missing["MFU"] = f"the peak of {bench.device_name} in {bench.precision} is not known"
    answer = report(
        "step",
        figures,
        ratios,
        missing,
        setting=bench.describe(),
        split=split,
        peak_memory_gib=bench.memory_gib,
        flops_per_patch=bench.flops / size,
        mfu=used,
    )
    return {**answer, "text": table(answer, _advice(answer))}


def _advice(answer: Mapping[str, Any]) -> list[str]:
    more = {name: f"{100 * (1 / ratio - 1):+.1f} %" for name, ratio in answer["ratios"].items()}
    split = ", ".join(f"{name} {100 * share:.0f} %" for name, share in answer["split"].items())
    memory = ", ".join(f"{name} {gib:.2f} GiB" for name, gib in answer["peak_memory_gib"].items())
    used = ", ".join(f"{name} {100 * share:.0f} %" for name, share in answer["mfu"].items())
    return [
        f"Time beside the bare model's, on the same views: our step {more['step/bare']}, the trainer's loop {more['loop/bare']} "
        f"(to be at most +{100 * _AIM:.0f} %: a ratio of {1 / (1 + _AIM):.2f} or more); views made too, {more['step with views/bare']}.",
        f"The time of a step with views: {split} (update: clipping, optimiser, EMA).",
        f"Peak memory: {memory}. The model's arithmetic: {answer['flops_per_patch'] / 1e9:.3g} GFLOP a patch"
        + (f"; of the peak: {used}." if used else "."),
    ]
