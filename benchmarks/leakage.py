"""How often copies of real patches are found, and how often other patches are taken for copies; figures in leakage.json.

    python benchmarks/leakage.py NAME=FOLDER [NAME=FOLDER ...]

FOLDER: labelled images, with group_id for those that show the same tissue. Prints JSON.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pathssl.environment import describe_environment
from pathssl.leakage import copies
from pathssl.leakage.copies import find_copies
from pathssl.leakage.fingerprint import fingerprints
from pathssl.probes.folder import folder_task

COPIED = 500


def jpeg(picture: np.ndarray, quality: int = 60) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def resized(picture: np.ndarray, share: float) -> np.ndarray:
    size = round(len(picture) * share)
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def brighter(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture * np.array([1.05, 0.97, 1.02]) + 5, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 60": jpeg,
    "flipped, JPEG 60": lambda picture: jpeg(np.ascontiguousarray(picture[:, ::-1])),
    "turned by 90 degrees, JPEG 60": lambda picture: jpeg(np.ascontiguousarray(np.rot90(picture))),
    "half the size, JPEG 60": lambda picture: jpeg(resized(picture, 0.5)),
    "other colours, JPEG 60": lambda picture: jpeg(brighter(picture)),
    "cropped by 2 %, JPEG 60": lambda picture: jpeg(np.ascontiguousarray(picture[2:-2, 2:-2])),
}


def measure(folder: Path) -> dict:
    """Of one labelled folder."""
    task = folder_task(path=str(folder), image_px=224, val_fraction=0.2, threads=2, cache_mib=2000)
    images = np.concatenate(list(task.batches(256)))
    start_s = time.perf_counter()
    of_all = fingerprints([images])
    hashed_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    pairs = find_copies(of_all)
    compared_s = time.perf_counter() - start_s
    same = task.groups_N[pairs.rows] == task.groups_N[pairs.columns]
    sizes = np.unique(task.groups_N, return_counts=True)[1]
    chosen = np.random.default_rng(0).choice(len(images), min(COPIED, len(images)), replace=False)
    recall, similarity = {}, {}
    for name, change in CHANGES.items():
        found = find_copies(fingerprints([change(images[k])[None] for k in chosen]), of_all)
        own = chosen[found.rows] == found.columns
        recall[name] = float(np.mean(np.isin(np.arange(len(chosen)), found.rows[own])))
        similarity[name] = float(np.quantile(found.similarity[own], 0.01)) if own.any() else None
    return {
        "images": len(images),
        "groups": len(sizes),
        "recall of copies": recall,
        "similarity, first percentile of those found": similarity,
        "pairs of different groups": int((len(images) ** 2 - (sizes**2).sum()) // 2),
        "of these taken for copies": int((~same).sum()),
        "their greatest similarity": float(pairs.similarity[~same].max()) if (~same).any() else None,
        "pairs of one group": int((sizes * (sizes - 1) // 2).sum()),
        "of these found": int(same.sum()),
        "seconds": {"hashes": round(hashed_s, 2), "all pairs": round(compared_s, 2)},
    }


if __name__ == "__main__":
    known = describe_environment()
    answer = {
        "command": f"python benchmarks/leakage.py {' '.join(word.split('=')[0] + '=FOLDER' for word in sys.argv[1:])}",
        "commit": known["commit"],
        "cpu": known["cpu"],
        "most bits": copies.MOST_BITS,
        "least similarity": copies.LEAST_SIMILARITY,
        "sets": {name: measure(Path(folder)) for name, _, folder in (word.partition("=") for word in sys.argv[1:])},
    }
    print(json.dumps(answer, indent=1))
