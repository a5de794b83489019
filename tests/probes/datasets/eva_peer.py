"""kaiko-eva's own view of datasets: a program for an environment that has kaiko-eva 0.4.5, and not pathssl.

python eva_peer.py list ROOT             JSON of every split of ROOT/<task>: classes, and each item's name and label (or mask)
python eva_peer.py run CONFIG ...        as `eva predict_fit --config CONFIG`, on datasets that need not be as large as published
"""

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from eva.core.data.samplers.classification import BalancedSampler
from eva.vision import datasets
from eva.vision.data.wsi.patching.samplers import GridSampler

# Of each task its class, the splits by our names, and what else eva's configuration says.
TASKS = {
    "bach": (datasets.BACH, {"train": "train", "val": "val"}, {}),
    "crc": (datasets.CRC, {"train": "train", "val": "val"}, {}),
    "mhist": (datasets.MHIST, {"train": "train", "val": "test"}, {}),
    "pcam": (datasets.PatchCamelyon, {"train": "train", "val": "val", "test": "test"}, {}),
    "breakhis": (datasets.BreaKHis, {"train": "train", "val": "val"}, {}),
    "bracs": (datasets.BRACS, {"train": "train", "val": "val", "test": "test"}, {}),
    "gleason": (datasets.GleasonArvaniti, {"train": "train", "val": "val", "test": "test"}, {}),
    "consep": (datasets.CoNSeP, {"train": "train", "val": "val"}, {"sampler": GridSampler()}),
    "monusac": (datasets.MoNuSAC, {"train": "train", "val": "test"}, {"export_masks": False}),
}
SEGMENTATION = {"consep", "monusac"}


def listing(root: Path) -> dict:
    found = {name: {"classes": list(opened(root, name, "train").classes), "items": items(root, name)} for name in TASKS}
    return {**found, "pcam_10shot": {"classes": found["pcam"]["classes"], "items": {"train": ten_shots(root)}}}


def opened(root: Path, name: str, split: str):
    """eva's dataset, without the comparison of its length with the published one."""
    made, _, more = TASKS[name]
    dataset = made(root=str(root / name), split=split, **more)
    dataset.configure()
    return dataset


def items(root: Path, name: str) -> dict[str, list]:
    found = {}
    for ours, theirs in TASKS[name][1].items():
        dataset = opened(root, name, theirs)
        if name in SEGMENTATION:
            found[ours] = [[file, digest(mask)] for file, mask in masks(dataset).items()]
        else:
            found[ours] = [item(dataset, k) for k in range(len(dataset))]
    return found


def item(dataset, k: int) -> list:
    return [dataset.filename(k), int(dataset.load_target(k))]


def ten_shots(root: Path) -> list:
    """As eva's patch_camelyon_10shot draws them."""
    dataset = opened(root, "pcam", "train")
    sampler = BalancedSampler(num_samples=10)
    sampler.set_dataset(dataset)
    return [item(dataset, k) for k in sampler]


def masks(dataset) -> dict[str, np.ndarray]:
    """The (H, W) class numbers of each image; patches of one image are put together."""
    whole = {}
    for k in range(len(dataset)):
        mask_HW = np.asarray(dataset.load_target(k)).astype(np.uint8)
        coordinates = (dataset.load_metadata(k) or {}).get("coords")
        whole.setdefault(dataset.filename(k), []).append((coordinates, mask_HW))
    return {name: put_together(patches) for name, patches in sorted(whole.items())}


def put_together(patches: list) -> np.ndarray:
    if patches[0][0] is None:
        ((_, mask_HW),) = patches
        return mask_HW
    places = [tuple(map(int, coordinates.split(","))) for coordinates, _ in patches]
    mask_HW = np.full((max(y + h for _, y, _, h in places), max(x + w for x, _, w, _ in places)), 255, np.uint8)
    for (x, y, w, h), (_, patch) in zip(places, patches, strict=True):
        mask_HW[y : y + h, x : x + w] = patch
    return mask_HW


def digest(mask_HW: np.ndarray) -> str:
    """Of size and values; uint8."""
    return hashlib.blake2b(
        f"{mask_HW.shape}".encode() + np.ascontiguousarray(mask_HW).tobytes(), digest_size=8
    ).hexdigest()


def run(root: Path, configs: list[str]) -> None:
    """CONFIG is <task>.yaml."""
    from eva.core.cli import cli

    for made, *_ in TASKS.values():
        made.validate = staticmethod(lambda: None)  # it compares lengths
    for config in configs:
        os.environ["DATA_ROOT"] = str(root / Path(config).stem.removesuffix("_10shot"))
        sys.argv = ["eva", "predict_fit", "--config", config]
        cli()


if __name__ == "__main__":
    what, root, *configs = sys.argv[1:]
    if what == "list":
        with contextlib.redirect_stdout(sys.stderr):
            found = listing(Path(root))
        of_tasks = [f" {json.dumps(name)}: {json.dumps(of_task)}" for name, of_task in found.items()]
        print("{\n" + ",\n".join(of_tasks) + "\n}")
    else:
        run(Path(root), configs)
