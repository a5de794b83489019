"""Miniature copies of published datasets: their folders, names, file formats and image sizes, with few distinct images in them."""

import os
from pathlib import Path

import numpy as np
from PIL import Image


def bach(root: Path, *, size: tuple[int, int] = (2048, 1536)) -> Path:
    """`root`/ICIAR2018_BACH_Challenge/Photos with all 400 files, since the split goes by place; four distinct images a class."""
    photos = root / "ICIAR2018_BACH_Challenge" / "Photos"
    for number, (name, first) in enumerate({"Benign": "b", "InSitu": "is", "Invasive": "iv", "Normal": "n"}.items()):
        paths = [photos / name / f"{first}{k:03d}.tif" for k in range(1, 101)]
        write_links(paths, [tissue(size, hue=number, seed=k) for k in range(4)])
    return root


def tissue(size: tuple[int, int], *, hue: int, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 of width and height `size`: pink with noise, and of a tint that tells classes apart, not without error."""
    rng = np.random.default_rng([hue, seed])
    width, height = size
    coarse = rng.normal(0, 30, (height // 16 + 1, width // 16 + 1, 3)).repeat(16, 0).repeat(16, 1)[:height, :width]
    tint = np.array([20 * np.cos(hue), 20 * np.sin(hue), 10 * (hue % 3)])
    return (np.array([200, 150, 190]) + tint + coarse).clip(0, 255).astype(np.uint8)


def write_links(paths: list[Path], images: list[np.ndarray]) -> None:
    """Writes the images to the first paths; the others are hard links to them, in turn."""
    for k, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        if k < len(images):
            Image.fromarray(images[k]).save(path)
        else:
            os.link(paths[k % len(images)], path)
