"""Miniature copies of published datasets: their folders, names, file formats and image sizes, with few distinct images in them."""

import os
from collections.abc import Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import numpy as np
from PIL import Image


def bach(root: Path, *, size: tuple[int, int] = (2048, 1536)) -> Path:
    """`root`/ICIAR2018_BACH_Challenge/Photos with all 400 files, since the split goes by place; four distinct images a class."""
    photos = root / "ICIAR2018_BACH_Challenge" / "Photos"
    for number, (name, first) in enumerate({"Benign": "b", "InSitu": "is", "Invasive": "iv", "Normal": "n"}.items()):
        paths = [photos / name / f"{first}{k:03d}.tif" for k in range(1, 101)]
        write_links(paths, [tissue(size, hue=number, seed=k) for k in range(4)])
    return root


CRC_CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")


def crc(
    root: Path,
    *,
    train: Sequence[int] = (6,) * 9,
    val: Sequence[int] = (3,) * 9,
    size: tuple[int, int] = (224, 224),
    distinct: int = 3,
) -> Path:
    """`root`/NCT-CRC-HE-100K and CRC-VAL-HE-7K with so many images of each class, of which `distinct` differ."""
    for folder, infix, per_class in (("NCT-CRC-HE-100K", "", train), ("CRC-VAL-HE-7K", "TCGA-", val)):
        for number, (name, count) in enumerate(zip(CRC_CLASSES, per_class, strict=True)):
            letters = islice(
                product(ascii_uppercase, repeat=8), 0, None, 7
            )  # as ADI-AAAFLCLY, though no code says more
            paths = [root / folder / name / f"{name}-{infix}{''.join(next(letters))}.tif" for _ in range(count)]
            write_links(paths, [tissue(size, hue=number, seed=k + bool(infix) * distinct) for k in range(distinct)])
    return root


def mhist(
    root: Path,
    *,
    train: tuple[int, int] = (8, 12),
    test: tuple[int, int] = (4, 6),
    size: tuple[int, int] = (224, 224),
) -> Path:
    """`root`/annotations.csv and images, with so many of (SSA, HP) in each part, in the mixed order that the real one has."""
    wanted = [
        (label, part)
        for part, of in (("train", train), ("test", test))
        for label, n in zip(("SSA", "HP"), of, strict=True)
        for _ in range(n)
    ]
    mixed = [wanted[k] for k in np.random.default_rng(0).permutation(len(wanted))]
    names = [f"MHIST_{''.join(letters)}.png" for letters in islice(product(ascii_lowercase, repeat=3), len(mixed))]
    lines = ["Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"]
    for k, (name, (label, part)) in enumerate(zip(names, mixed, strict=True)):
        lines.append(f"{name},{label},{4 + k % 4 if label == 'SSA' else k % 4},{part}")
    for number, label in enumerate(("SSA", "HP")):
        paths = [root / "images" / name for name, (of, _) in zip(names, mixed, strict=True) if of == label]
        write_links(paths, [tissue(size, hue=number, seed=k) for k in range(4)])
    (root / "annotations.csv").write_text("\n".join(lines) + "\n")
    return root


# All patients of the four classes that eva takes, and one of each other type, by their folders' names.
BREAKHIS = {
    "benign/SOB/tubular_adenoma/SOB_B_TA_14-": "13200 15275 16184 16184CD 19854C 21978AB 3411F",
    "malignant/SOB/mucinous_carcinoma/SOB_M_MC_14-": "10147 12773 13413 13418DE 16456 18842 18842D 19979 19979C",
    "benign/SOB/fibroadenoma/SOB_B_F_14-": "14134 14134E 21998CD 21998EF 23060AB 23060CD 23222AB 25197 29960AB 9133",
    "malignant/SOB/ductal_carcinoma/SOB_M_DC_14-": "10926 11031 11520 11951 12312 13412 13993 14015 14926 14946 15572 15696 "
    "15792 16188 16336 16448 16601 16716 16875 17614 17901 17915 18650 20629 20636 2523 2773 2980 2985 3909 4364 4372 5287 "
    "5694 5695 6241 8168 9461",
    "benign/SOB/adenosis/SOB_B_A_14-": "22549G",
    "benign/SOB/phyllodes_tumor/SOB_B_PT_14-": "22704",
    "malignant/SOB/lobular_carcinoma/SOB_M_LC_14-": "13412",
    "malignant/SOB/papillary_carcinoma/SOB_M_PC_15-": "190EF",
}


def breakhis(root: Path, *, per_patient: int = 1, size: tuple[int, int] = (700, 460)) -> Path:
    """`root`/BreaKHis_v1/histology_slides/breast with so many images of each patient at 40X, and one at 100X."""
    for number, (folder, patients) in enumerate(BREAKHIS.items()):
        paths = []
        for patient in patients.split():
            slide = root / "BreaKHis_v1" / "histology_slides" / "breast" / f"{folder}{patient}"
            kind, _, rest = slide.name.rpartition("_")  # SOB_B_TA_14-4659 holds SOB_B_TA-14-4659-40-001.png
            shots = [("40", k) for k in range(1, per_patient + 1)] + [("100", 1)]
            paths += [slide / f"{zoom}X" / f"{kind}-{rest}-{zoom}-{k:03d}.png" for zoom, k in shots]
        write_links(paths, [tissue(size, hue=number, seed=k) for k in range(3)])
    return root


BRACS_CLASSES = ("0_N", "1_PB", "2_UDH", "3_FEA", "4_ADH", "5_DCIS", "6_IC")


def bracs(
    root: Path,
    *,
    per_class: Mapping[str, int] = {"train": 6, "val": 3, "test": 3},
    sizes: Sequence[tuple[int, int]] = ((1291, 894), (702, 1134), (2312, 2040)),
) -> Path:
    """`root`/BRACS_RoI/latest_version with so many regions of each class: three of a slide, and slides of several lesions."""
    first = 264
    for split, count in per_class.items():
        for number, name in enumerate(BRACS_CLASSES):
            folder = root / "BRACS_RoI" / "latest_version" / split / name
            stems = [f"BRACS_{first + k // 3}_{name.split('_')[1]}_{k % 3 + 1}" for k in range(count)]
            images = [tissue(size, hue=number, seed=first + k) for k, size in enumerate(sizes)]
            write_links([folder / f"{stem}.png" for stem in stems], images)
        first += 1000
    return root


def gleason(root: Path, *, per_class: int = 2, size: tuple[int, int] = (750, 750)) -> Path:
    """`root`/train_validation_patches_750 and test_patches_750, with so many patches of each class in each of two cores an array."""
    for array, place in (
        *((array, "train_validation_patches_750") for array in ("ZT111", "ZT199", "ZT204", "ZT76")),
        ("ZT80", "test_patches_750/patho_1"),
        ("ZT80", "test_patches_750/patho_2"),
    ):
        for label in range(4):
            cores = [f"{array}_{39 + spot}_A_{spot}_{spot + 1}" for spot in (1, 2)]
            names = [
                (core, f"{core}_patch_{10 * label + k}_class_{label}.jpg") for core in cores for k in range(per_class)
            ]
            images = [tissue(size, hue=label, seed=k) for k in range(2)]
            write_links([root / place / core / name for core, name in names], images)
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
