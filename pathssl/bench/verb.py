"""`python -m pathssl bench WHAT`: which measurement, at which size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

WHAT = {
    "loader": "patches from slides",
    "augment": "views from patches",
    "step": "training on patches",
    "probe": "tasks from an encoder, beside its forward passes and kaiko-eva",
}


def size(what: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that say how large a thing is measured, where `overrides` do not."""
    if any(override.startswith("scale=") for override in overrides):
        return []
    if what == "probe":
        return ["scale=small", *([] if any(o.startswith("model=") for o in overrides) else ["model=vits16"])]
    if what != "step":
        return ["scale=small"]
    import torch  # here: the help of the command line needs none

    if not torch.cuda.is_available() or "train.device=cpu" in overrides:
        return ["scale=tiny"]
    return ["scale=small", *([] if any(o.startswith("model=") for o in overrides) else ["model=vits16"])]


def bench(
    what: str,
    config: dict[str, Any],
    *,
    rounds: int,
    patches: int | None,
    tissue: Path | None,
    eva: Path | None,
    steps: int,
) -> dict[str, Any]:
    """The answer. patches: a round, None for what is usual. tissue: the slide that the benchmark slide is made from.

    eva, steps: the Python that has kaiko-eva, and how long its heads are trained.
    """
    if what == "probe":
        from pathssl.bench.probe import bench_probe

        return bench_probe(config, rounds=rounds, eva=eva, steps=steps)
    if what == "step":
        from pathssl.bench.step import bench_step

        return bench_step(config, rounds=rounds, patches=patches)
    if what == "loader":
        from pathssl.bench.loader import bench_loader

        return bench_loader(
            cache=Path(config["cache_dir"]),
            tissue=tissue,
            rounds=rounds,
            patches=patches or 1024,
            reader=config["data"]["reader"],
            foreground=config["data"]["foreground"],
            prefetch=config["loader"]["prefetch"],
        )
    from pathssl.bench.views import bench_views

    return bench_views(
        settings={key: value for key, value in config["augmentation"].items() if key != "_target_"},
        patch_px=config["resolution"]["patch_px"],
        rounds=rounds,
        patches=patches or 64,
        device=config["train"]["device"],
    )
