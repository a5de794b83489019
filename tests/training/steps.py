"""Twenty steps of a small model on given patches, as a program for torchrun: `steps.py FOLDER`.

FOLDER/<objective>_<mode>.pt gets the whole state after them, as training would save it, and the losses; <objective>_fsdp_bf16.pt the
losses in bf16.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pathssl import distributed
from pathssl.augment import MultiCrop
from pathssl.models.encoder import create_encoder
from pathssl.objectives import DINO, DINOv2
from pathssl.seeding import words
from pathssl.training.parallel import MODES
from pathssl.training.recipe import Recipe
from pathssl.training.state import gather
from pathssl.training.step import Step

STEPS, BATCH, PATCH_PX = 20, 16, 40
KINDS = ("dino", "dinov2_koleo", "dinov2_kde")
HEAD = {
    "out_dim": 32,
    "hidden_dim": 32,
    "bottleneck_dim": 16,
    "head_layers": 3,
    "head_batch_norm": False,
    "norm_last_layer": False,
    "student_temperature": 0.1,
    "teacher_temperature": 0.07,
    "warmup_teacher_temperature": 0.04,
    "warmup_teacher_fraction": 0.5,
    "centre_momentum": 0.9,
    "sinkhorn_iterations": 3,
}
VIEWS = {
    "global_px": 32,
    "local_px": 16,
    "local_crops": 2,
    "global_scale": [0.4, 1.0],
    "local_scale": [0.1, 0.4],
    "ratio": [0.75, 1.3333],
    "horizontal_flip": 0.5,
    "vertical_flip": 0.0,
    "turn": False,
    "hed": None,
    "jitter": None,
    "grey": {"p": 0.2},
    "blur": None,
    "solarise": None,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
RECIPE = Recipe(
    total_steps=STEPS,
    batch_size=BATCH,
    lr=1e-3,
    final_lr=1e-5,
    warmup=0.1,
    weight_decay=0.04,
    final_weight_decay=0.4,
    momentum=0.9,
    final_momentum=1.0,
    clip_grad=0.3,
    clip_rule="parameter",
    freeze_last_layer=0.1,
    checkpoint_every=1.0,
    log_every=1.0,
)


def build(kind: str, *, drop_path: float = 0.0, depth: int = 2) -> torch.nn.Module:
    """The objective of that name around a small ViT: dino, or dinov2_koleo, dinov2_kde, both with Sinkhorn-Knopp."""
    torch.manual_seed(0)
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": depth, "num_heads": 2}
    encoder = create_encoder("vit_tiny_patch16_224", args, drop_path)
    if kind == "dino":
        return DINO(encoder, centring="centre", **HEAD)
    separate = kind == "dinov2_kde"
    return DINOv2(
        encoder,
        patch_head={"separate": separate, "out_dim": 24, "bottleneck_dim": 8},
        patch_weight=1.0,
        mask_probability=0.5,
        mask_ratio=[0.1, 0.5],
        spread={"kind": kind.removeprefix("dinov2_"), "weight": 0.1, "group": 4, "concentration": 5.0},
        centring="sinkhorn",
        **HEAD,
    )


def patches(step: int) -> tuple[np.ndarray, np.ndarray]:
    """(BATCH, P, P, 3) uint8 patches and (BATCH,) seeds of that step."""
    generator = np.random.default_rng(step)
    coarse = generator.integers(0, 255, (BATCH, 5, 5, 3), np.uint8)
    seeds = words(0, "views", np.arange(step * BATCH, (step + 1) * BATCH), 2)
    return coarse.repeat(8, axis=1).repeat(8, axis=2), (seeds[:, 0] << np.uint64(32)) | seeds[:, 1]


def taken(objective: torch.nn.Module, mode: str, accumulate: int, *, bf16: bool = False, **more: object) -> Step:
    parallel = {"mode": mode, "accumulate": accumulate, "activation_checkpointing": False, "compile": False}
    return Step(
        objective,
        views=MultiCrop(**VIEWS),
        recipe=RECIPE,
        # Biases of keys have no gradient but rounding, as a softmax ignores them; Adam would blow that up to the learning rate.
        make_optimiser=partial(torch.optim.AdamW, betas=(0.9, 0.999), eps=1e-6),
        layer_decay=0.9,
        patch_embed_lr=0.2,
        micro_batch=distributed.check_batch(BATCH, accumulate),
        seed=0,
        device=torch.device("cpu"),
        bf16=bf16,
        parallel=parallel | more,
    )


def run(step: Step, first: int = 0, last: int = STEPS) -> list[float]:
    """The losses of the steps first ... last - 1, means over all processes."""
    share = BATCH // distributed.world_size()
    rows = slice(distributed.rank() * share, (distributed.rank() + 1) * share)
    losses = []
    for number in range(first, last):
        pixels, seeds = patches(number)
        terms = step.take(number, number * BATCH + rows.start, torch.from_numpy(pixels[rows]), seeds[rows])
        losses.append(distributed.sum_(terms["loss"]).item() / distributed.world_size())
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.start("cpu")
    for kind in KINDS:
        for mode in MODES:
            step = taken(build(kind), mode, accumulate=1)
            losses = run(step)
            state = gather(step.objective, step.optimiser)
            if distributed.is_main():
                torch.save(state | {"losses": losses}, Path(sys.argv[1]) / f"{kind}_{mode}.pt")
        losses = run(taken(build(kind), "fsdp", accumulate=1, bf16=True), last=6)
        if distributed.is_main():
            torch.save(losses, Path(sys.argv[1]) / f"{kind}_fsdp_bf16.pt")
    distributed.stop()
