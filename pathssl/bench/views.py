"""How fast raw patches become views, beside torchvision."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torchvision.transforms.v2.functional import to_pil_image

from pathssl.augment import MultiCrop
from pathssl.bench.rounds import Contender, Figures, alternate, cores, pinned, report, table
from pathssl.bench.torchvision_views import batch_of_views, torchvision_views
from pathssl.errors import UserError
from pathssl.seeding import words

CPU_BATCH, GPU_BATCHES = 64, (64, 256)
_GPU_PATCHES = 4096  # a round, of each batch size
_UNIT = "patches/s"


def bench_views(
    *, settings: Mapping[str, Any], patch_px: int, rounds: int, patches: int, device: str
) -> dict[str, Any]:
    """The answer of `bench augment`: all views of a patch, by our MultiCrop and by torchvision's transforms, on one core; ours also
    on a GPU, from pinned memory, where `device` (auto, cpu, cuda) is or finds one.

    settings: MultiCrop's. patches: that a CPU turns into views in a round (rounded up to whole batches of 64).
    """
    count = -(-patches // CPU_BATCH) * CPU_BATCH
    made = f"{2 + settings['local_crops']} views ({_sizes(settings)}) of {patch_px} px"
    pixels = _patches(CPU_BATCH, patch_px)
    seeds = words(0, "bench views", np.arange(CPU_BATCH), 1)[:, 0]
    ours = MultiCrop(**settings)
    contenders = [
        Contender(
            "views: cpu",
            f"{made}, one core, batches of {CPU_BATCH}",
            _UNIT,
            partial(_cpu_speed, lambda: ours(pixels, seeds), count),
        )
    ]
    missing = {}
    try:
        transforms = torchvision_views(settings)
    except UserError as error:
        missing["torchvision"] = str(error)
    else:
        images = list(rearrange(pixels, "b h w c -> b c h w").contiguous())
        for name, given in (("tensor", images), ("pil", [to_pil_image(image) for image in images])):
            measure = partial(_cpu_speed, partial(batch_of_views, transforms, given), count)
            setting = f"{made}, one core, v2 transforms, image by image, from {name}"
            contenders.append(Contender(f"torchvision: {name}", setting, _UNIT, measure))
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        contenders += _on_gpu(ours, made, patch_px)
    else:
        missing["views: cuda"] = "torch sees no GPU here" if device == "auto" else f"train.device={device}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pinned(cores(1)):
            for contender in contenders:
                contender.measure(0)  # the first call loads and allocates
            figures = alternate(contenders, rounds)
    finally:
        torch.set_num_threads(threads)
    names = [name for name in figures.values if name.startswith("torchvision")]
    if names:
        # The faster of torchvision's two, round by round: the harder to beat.
        fastest = [max(speeds) for speeds in zip(*(figures.values[name] for name in names), strict=True)]
        figures.add("torchvision", "the faster of the two", _UNIT, fastest)
    ratios = {"views/torchvision": figures.ratio("views: cpu", "torchvision")}
    for batch in GPU_BATCHES:
        ratios[f"views@cuda{batch}/torchvision"] = figures.ratio(f"views: cuda, {batch}", "torchvision")
    answer = report("augment", figures, ratios, missing)
    return {**answer, "text": table(answer, _advice(figures))}


def _sizes(settings: Mapping[str, Any]) -> str:
    return f"2 x {settings['global_px']}, {settings['local_crops']} x {settings['local_px']}"


def _patches(count: int, patch_px: int) -> torch.Tensor:
    """(count, S, S, 3) uint8; no transform's time depends on what the picture shows."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, patch_px, patch_px, 3), np.uint8))


def _cpu_speed(make: Callable[[], Any], count: int, number: int) -> float:  # noqa: ARG001  every round makes the same
    start = time.perf_counter()
    for _ in range(count // CPU_BATCH):
        make()
    return count / (time.perf_counter() - start)


def _on_gpu(ours: MultiCrop, made: str, patch_px: int) -> list[Contender]:
    contenders = []
    for batch in GPU_BATCHES:
        pixels = _patches(batch, patch_px).pin_memory()
        seeds = words(0, "bench views", np.arange(batch), 1)[:, 0]

        def measure(number: int, batch=batch, pixels=pixels, seeds=seeds) -> float:  # noqa: ARG001
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(_GPU_PATCHES // batch):
                ours(pixels.to("cuda", non_blocking=True), seeds)
            torch.cuda.synchronize()
            return _GPU_PATCHES / (time.perf_counter() - start)

        setting = f"{made}, {torch.cuda.get_device_name()}, batches of {batch} from pinned memory, one core feeding it"
        contenders.append(Contender(f"views: cuda, {batch}", setting, _UNIT, measure))
    return contenders


def _advice(figures: Figures) -> list[str]:
    lines = [f"One core makes the views of {figures.median('views: cpu'):,.0f} patches/s."]
    for batch in GPU_BATCHES:
        if (name := f"views: cuda, {batch}") in figures.values:
            lines.append(f"The GPU makes those of {figures.median(name):,.0f} patches/s in batches of {batch}.")
    return lines
