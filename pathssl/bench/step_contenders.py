"""What trains in `bench step`: the bare model, our step and the trainer's loop, on the same views."""

import copy
import logging
import pkgutil
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from pathssl import parts
from pathssl.bench.bare import Bare, Packed, Prepared, Published
from pathssl.bench.memory_loader import MemoryLoader
from pathssl.bench.rounds import Contender, Figures
from pathssl.determinism import deterministic
from pathssl.flops import counted, peak
from pathssl.lifecycle import Status
from pathssl.make import make
from pathssl.objectives.block_masks import block_masks
from pathssl.probes.evaluate import Probes
from pathssl.run import build_recipe
from pathssl.seeding import words
from pathssl.training.journal import Journal
from pathssl.training.recipe import Recipe
from pathssl.training.tracking import Tracker
from pathssl.training.trainer import Trainer

_WARM_UP = 2
_UNIT = "patches/s"
_OTHERS = {
    "published": "a loss for each pair of views, clipping parameter by parameter, as DINO's public code",
    "packed": "the bare model, views of both sizes in one pass",
}


class Steps:
    """The contenders. `steps` are timed at a time; all but one train on the same views, which are made beforehand."""

    def __init__(self, config: dict[str, Any], device: torch.device, steps: int):
        self.config, self.device, self.steps, self.size = config, device, steps, config["batch"]["size"]
        self.precision = "bf16" if parts.bf16(config["train"]["precision"], device.type) else "fp32"
        self.device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
        patch_px = config["resolution"]["patch_px"]
        self.pixels = np.random.default_rng(0).integers(0, 256, (self.size, patch_px, patch_px, 3), np.uint8)
        self.seeds = words(0, "bench step", np.arange(self.size), 1)[:, 0]
        objective, self.views = parts.objective(config), make(config["augmentation"])
        pair = copy.deepcopy(objective.student), copy.deepcopy(objective.teacher)
        self.ours = parts.step(config, self._recipe(), objective, self.views, device, self.size)
        self.patches = torch.from_numpy(self.pixels).to(device)
        self.memory_gib = {"step with views": self._peak_gib(0, self.take)}
        held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        with torch.no_grad():
            self.prepared = self.views(self.patches, self.seeds)
        self.bare = self._bare(Bare, *pair)
        peak_gib = self._peak_gib(held, self.bare.step)
        if device.type == "cuda":  # a process's memory does not say whose it is
            self.memory_gib["bare"] = peak_gib
        self.flops = counted(self.bare.step)
        self.others = {"published": self._bare(Published, *pair)}
        if self.bare.prepared.masks is None:
            self.others["packed"] = self._bare(Packed, *pair)

    def _recipe(self) -> Recipe:
        """The run's, for so many steps as a round has; a line is logged as often as there, and once at least."""
        recipe = build_recipe(self.config)
        interval = max(1, round(recipe.log_every * recipe.total_steps))
        total = _WARM_UP + self.steps + 1
        return replace(
            recipe,
            total_steps=total,
            log_every=min(interval, self.steps) / total,
            checkpoint_every=1.0,
            freeze_last_layer=0.0,
        )

    def _bare(self, kind: type[Bare], student: torch.nn.Module, teacher: torch.nn.Module) -> Bare:
        """One that trains copies of these."""
        values, settings, masks = self.ours.recipe.values(_WARM_UP), self.config["objective"], None
        if "mask_ratio" in settings:
            px, patch_px = self.config["resolution"]["global_px"], student.encoder.patch_embed.patch_size
            shape = (len(self.prepared["global"]), *(px // side for side in patch_px))
            of_patches = block_masks(self.seeds, *shape, settings["mask_probability"], tuple(settings["mask_ratio"]))
            masks = torch.from_numpy(of_patches.swapaxes(0, 1).copy()).to(self.device)
        algorithm = dict(**self.config["optim"]["algorithm"])
        return kind(
            copy.deepcopy(student).to(self.device).train(),
            copy.deepcopy(teacher).to(self.device).eval(),
            Prepared(self.prepared["global"], self.prepared["local"], masks),
            settings,
            partial(pkgutil.resolve_name(algorithm.pop("_target_")), **algorithm),
            lr=values["lr"],
            weight_decay=values["weight_decay"],
            momentum=values["teacher_momentum"],
            progress=values["progress"],
            autocast=torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext(),
        )

    def contenders(self) -> list[Contender]:
        same = f"batches of {self.size} on {self.device_name} in {self.precision}"
        return [
            Contender("bare", f"forward, backward, loss, optimiser, EMA; views given; {same}", _UNIT,
                      self._timed(self.bare.step)),
            *[Contender(name, f"{_OTHERS[name]}; the same views given; {same}", _UNIT, self._timed(other.step))
              for name, other in self.others.items()],
            Contender("step", f"Step.take; the same views given; {same}", _UNIT, self._timed(self._take_prepared)),
            Contender("loop", f"Trainer.fit around it, patches in memory; the same views given; {same}", _UNIT, self._loop),
            Contender("step with views", f"Step.take from uint8 patches; {same}", _UNIT, self._timed(self.take)),
        ]  # fmt: skip

    def used(self, figures: Figures) -> dict[str, float]:
        """{contender: the share of the device's peak that its model's arithmetic comes to}; empty where the peak is not known."""
        most = peak(self.device_name) if self.precision == "bf16" else None
        if most is None:
            return {}
        flops = self.flops / self.size
        return {name: round(figures.median(name) * flops / most, 4) for name in figures.values}

    def describe(self) -> dict[str, Any]:
        resolution, views = self.config["resolution"], self.config["augmentation"]["local_crops"]
        return {
            "model": self.config["model"]["name"],
            "parameters": sum(p.numel() for p in self.ours.objective.student.encoder.parameters()),
            "objective": self.config["objective"]["_target_"],
            "out_dim": self.config["objective"]["out_dim"],
            "views": f"2 x {resolution['global_px']}, {views} x {resolution['local_px']} of {resolution['patch_px']} px",
            "batch": self.size,
            "device": self.device_name,
            "precision": self.precision,
            "threads": self.config["train"]["threads"],
            "steps_a_round": self.steps,
        }

    def take(self) -> None:
        with self._as_configured():
            self.ours.take(_WARM_UP, 0, self.patches, self.seeds)

    def _take_prepared(self) -> None:
        with self._given():
            self.take()

    @contextmanager
    def _as_configured(self) -> Iterator[None]:
        """Inside, kernels are deterministic if the config says so: a price of ours that the bare model does not pay."""
        deterministic(self.config["train"]["deterministic"])
        try:
            yield
        finally:
            deterministic(False)

    @contextmanager
    def _given(self) -> Iterator[None]:
        """Inside, our step gets the views that are there already."""
        self.ours.views = lambda _patches, _seeds: dict(self.prepared)
        try:
            yield
        finally:
            self.ours.views = self.views

    def _timed(self, take: Callable[[], object]) -> Callable[[int], float]:
        for _ in range(_WARM_UP):
            take()

        def measure(_number: int) -> float:
            self.synchronise()
            start = time.perf_counter()
            for _ in range(self.steps):
                take()
            self.synchronise()
            return self.steps * self.size / (time.perf_counter() - start)

        return measure

    def _loop(self, _number: int) -> float:
        """The trainer as it runs, with lines logged, coverage counted and status written, but checkpoints outside of the time."""
        config = self.config
        colours = {key: config["augmentation"][key] for key in ("mean", "std")}
        with TemporaryDirectory() as folder, self._given(), _quiet():
            loader = MemoryLoader(self.pixels, self.seeds, range(_WARM_UP, _WARM_UP + self.steps), self.synchronise)
            sentinels = parts.sentinels(config, self.ours.objective)
            trainer = Trainer(
                run=Path(folder),
                step=self.ours,
                loader=loader,
                journal=Journal(
                    Path(folder),
                    total_steps=self.ours.recipe.total_steps,
                    device=self.device,
                    probes=Probes({}, {}, held_out_NHWC=None, batch_size=1, **colours),
                    tracker=Tracker(Path(folder), wandb=None, config=config, choices={}, name="bench", group="bench"),
                    sentinels=sentinels,
                    report=Status(Path(folder), config).running,
                ),
                sentinels=sentinels,
                keep=lambda steps: steps,
                save_every_s=float("inf"),
            )
            loader.before_the_first = trainer.checkpoints.wait
            with self._as_configured():
                trainer.fit()
        return self.steps * self.size / loader.seconds

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _peak_gib(self, held: int, run: Callable[[], object]) -> float:
        """The GPU's memory at its fullest while `run` runs, without the bytes `held` by others; the process's where there is no GPU."""
        if self.device.type == "cpu":
            run()
            return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)
        torch.cuda.reset_peak_memory_stats(self.device)
        for _ in range(_WARM_UP):
            run()
        self.synchronise()
        return round((torch.cuda.max_memory_allocated(self.device) - held) / 2**30, 3)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, training says nothing: its patches are noise, and it would warn that there is nothing to learn from them."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
