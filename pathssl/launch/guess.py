"""Where nothing was measured: a guess from arithmetic, wide and called a guess. Needs torch."""

import time
from collections.abc import Mapping
from typing import Any

import torch

from pathssl.compute import flops_a_patch, shape_of
from pathssl.flops import peak
from pathssl.launch.earlier import Hardware
from pathssl.launch.ranges import Range
from pathssl.report.words import plural

ASSUMED_GPU = "A100"
# Of a device's arithmetic, what training a ViT puts to use: most, the usual and least.
_UTILISATION = (0.5, 0.3, 0.1)
_LEAST_S = 0.01  # starting the kernels of the smallest of models
_MOMENTS = 2  # that Adam keeps of each parameter


def seconds_a_step(config: Mapping[str, Any], hardware: Hardware) -> tuple[Range, str]:
    """From the operations of the encoders alone; heads and reading come on top."""
    flops = config["batch"]["size"] * flops_a_patch(config) / hardware.processes
    if hardware.gpu:
        name = hardware.name or ASSUMED_GPU
        rate, of = peak(name) or peak(ASSUMED_GPU), name if peak(name) else f"{name}, taken for an {ASSUMED_GPU}"
    else:
        rate, of = (
            _cpu_rate(config["train"]["threads"]),
            f"this CPU's matrix products, {plural(config['train']['threads'], 'thread')}",
        )
    seconds = Range(*(max(_LEAST_S, flops / (rate * share)) for share in _UTILISATION))
    shares = f"{_UTILISATION[2]:.0%} to {_UTILISATION[0]:.0%}"
    return seconds, f"a guess: {flops / 1e12:.3g} TFLOP at {shares} of {rate / 1e12:.3g} TFLOP/s ({of})"


def bytes_on_disk(config: Mapping[str, Any]) -> tuple[tuple[int, int], str]:
    """Of a teacher's file and of a training state, without the heads."""
    parameters = sum(p.numel() for p in shape_of(config).parameters())
    return (
        4 * parameters,
        4 * parameters * (2 + _MOMENTS),
    ), "a guess: parameters of the encoders and of Adam, without the heads"


def _cpu_rate(threads: int) -> float:
    """FLOP/s of a large product here."""
    before, size = torch.get_num_threads(), 1024
    torch.set_num_threads(threads)
    a = torch.ones(size, size)
    a @ a
    start_s, count = time.perf_counter(), 0
    while time.perf_counter() - start_s < 0.2:
        a @ a
        count += 1
    rate = 2 * size**3 * count / (time.perf_counter() - start_s)
    torch.set_num_threads(before)
    return rate
