"""Copies are told by the images that they are in, whatever a task cuts its images into."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from pathssl.leakage.fingerprint import fingerprints
from pathssl.leakage.guard import of_copies
from pathssl.leakage.overlaps import of_names
from pathssl.probes.cache import FeatureCache
from pathssl.probes.segmentation.folder import masks_task


def tissue(seed: int, px: int) -> np.ndarray:
    """(px, px, 3): smooth spots that no other seed has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (px // 8, px // 8, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((px, px), Image.Resampling.BICUBIC))


def open_masks(folder):
    settings = {"table": "masks.csv", "image_column": "path", "classes": ["background", "line"], "background": True}
    settings |= {"ignore": None, "instances": False, "val_fraction": 0.2, "threads": 1, "cache_mib": 10}
    return masks_task(path=str(folder), image_px=64, **settings)


@pytest.fixture
def masks(tmp_path):
    """Four images of four crops each, in `pictures`, and the task that they make when they are as one wants them."""
    pictures = [tissue(k, 128) for k in range(4)]
    splits = ("train", "train", "val", "test")

    def task():
        lines = ["path,mask,split"]
        for k, (picture, split) in enumerate(zip(pictures, splits, strict=True)):
            Image.fromarray(picture).save(tmp_path / f"image{k}.png")
            Image.fromarray(np.eye(128, dtype=np.uint8)).save(tmp_path / f"mask{k}.png")
            lines.append(f"image{k}.png,mask{k}.png,{split}")
        (tmp_path / "masks.csv").write_text("\n".join(lines) + "\n")
        return open_masks(tmp_path)

    return pictures, task


def test_a_copied_crop_names_the_image_that_it_was_cut_from(masks):
    pictures, task = masks
    patches = np.stack([pictures[3][64:, 64:], pictures[2][:64, 64:][:, ::-1], tissue(9, 64)])
    found = of_copies({"masks": task()}, fingerprints([patches]), ["a", "b", "c"], 4)
    assert [(one.kind, one.name, one.images) for one in found] == [
        ("patch", "a", ["image3.png"]),
        ("patch", "b", ["image2.png"]),
    ]


def test_an_image_is_named_once_however_many_of_its_crops_are_copies(masks):
    pictures, task = masks
    pictures[3][:64, :64] = pictures[3][64:, 64:]
    found = of_copies({"masks": task()}, fingerprints([pictures[3][None, 64:, 64:]]), ["a"], 4)
    assert [one.images for one in found] == [["image3.png"]]


def test_a_crop_that_stands_in_two_splits_is_told_by_its_images(masks):
    pictures, task = masks
    pictures[3][:64, :64] = pictures[0][64:, 64:]
    found = of_copies({"masks": task()}, fingerprints([]), [], 4)
    assert [(one.kind, one.name, one.images) for one in found] == [("split", "train image0.png", ["image3.png"])]


def test_what_follows_from_a_set_alone_is_found_once(masks, tmp_path):
    pictures, task = masks
    pictures[3][:64, :64] = pictures[0][64:, 64:]
    trained, cache = fingerprints([pictures[2][None, :64, :64]]), FeatureCache(tmp_path / "features", mib=1)
    made = task()
    first = of_copies({"masks": made}, trained, ["a"], 4, cache)
    assert [one.kind for one in first] == ["patch", "split"]
    made.batches = lambda _: pytest.fail("images were read again")
    assert of_copies({"masks": made}, trained, ["a"], 4, cache) == first
    pictures[3][:64, :64] = tissue(7, 64)
    assert [one.kind for one in of_copies({"masks": task()}, trained, ["a"], 4, cache)] == ["patch"]


def test_fingerprints_take_the_same_little_memory_however_many_pictures_there_are():
    batch = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    fingerprints([batch])
    tracemalloc.start()
    made = fingerprints(batch for _ in range(32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(made) == 2048 and peak < 2000 * len(made)


def test_the_slide_column_of_a_table_of_masks_is_read(masks, tmp_path):
    masks[1]()
    lines = (tmp_path / "masks.csv").read_text().splitlines()
    slides = ["slide", "", "", "slide77", ""]
    (tmp_path / "masks.csv").write_text("".join(f"{line},{slide}\n" for line, slide in zip(lines, slides, strict=True)))
    (found,) = of_names("masks", open_masks(tmp_path), ["other"], ["x/slide77.svs"])
    assert (found.kind, found.name, found.images) == ("slide", "x/slide77.svs", ["image2.png"])
