"""A miniature of CoNSeP: its folders and names, PNG images, and MATLAB files with maps of doubles as they are handed out."""

from pathlib import Path

import numpy as np
import scipy.io
from miniatures import tissue
from PIL import Image

COUNTS = {"Train": 6, "Test": 4}


def consep(root: Path, *, size: int = 100, counts=COUNTS) -> Path:
    """`root`/{Train,Test}/{Images,Labels}: nuclei of all seven types, darker the higher their number, on a grid."""
    for part, count in counts.items():
        for k in range(1, count + 1):
            write(root, part, k, *nuclei(size, seed=len(part) * 100 + k))
    return root


def write(root: Path, part: str, k: int, image: np.ndarray, types: np.ndarray) -> None:
    name = f"{part.lower()}_{k}"
    for folder in ("Images", "Labels"):
        (root / part / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / part / "Images" / f"{name}.png")
    numbers = np.where(types > 0, np.arange(types.size).reshape(types.shape) // 10 + 1, 0)
    maps = {"inst_map": numbers.astype(float), "type_map": types.astype(float)}
    of_nuclei = {"inst_type": np.ones((3, 1)), "inst_centroid": np.ones((3, 2))}
    scipy.io.savemat(root / part / "Labels" / f"{name}.mat", maps | of_nuclei, do_compression=True)


def nuclei(size: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, size, 3) and (size, size): an image and its types."""
    cell = size // 10
    y, x = np.mgrid[:size, :size]
    within = np.hypot(y % cell - cell / 2, x % cell - cell / 2) < cell / 3
    kinds = np.random.default_rng(seed).permutation(np.arange(121) % 8).reshape(11, 11)
    types = np.where(within, kinds[y // cell, x // cell], 0)
    image = tissue((size, size), hue=0, seed=seed).astype(int)
    return (image - 18 * types[..., None]).clip(0, 255).astype(np.uint8), types
