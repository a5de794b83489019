"""CoNSeP as it is handed out, in miniature: its parts, merged types, crops that are resampled, and what is wrong with it."""

import numpy as np
import pytest
import scipy.io
from miniatures_consep import consep, nuclei, write
from PIL import Image

from pathssl.errors import UserError
from pathssl.probes.datasets.consep import consep_task

SETTINGS = {"counts": {"train": 6, "val": 4}, "scored": "val", "crop_px": 25, "image_px": 16}
SETTINGS |= {"val_fraction": 0.25, "threads": 2, "cache_mib": 10}


@pytest.fixture
def folder(tmp_path):
    return consep(tmp_path / "consep")


def build(folder, **changes):
    return consep_task(path=str(folder), **SETTINGS | changes)


def merged(types):
    """eva's classes, written out."""
    return np.select([types == 0, types == 1, types == 2, np.isin(types, (3, 4)), types >= 5], range(5))


def test_types_are_merged_and_parts_are_splits(folder):
    task = build(folder, crop_px=None, image_px=100)
    assert (
        task.classes == ("background", "other", "inflammatory", "epithelial", "spindle-shaped") and task.background == 0
    )
    names = [
        f"{part}/Images/{part.lower()}_{k}.png"
        for part, count in (("Test", 4), ("Train", 6))
        for k in range(1, count + 1)
    ]
    assert task.ids_N.tolist() == names
    assert task.splits_N.tolist() == ["val"] * 4 + ["train"] * 6
    for row, seed in ((0, 401), (9, 506)):
        np.testing.assert_array_equal(task.labels_MPP[row], merged(nuclei(100, seed=seed)[1]))
    assert build(folder, scored="test").evaluated() == ("val", "test")
    inside = folder.parent / "unpacked"
    inside.mkdir()
    folder.rename(inside / "CoNSeP")
    assert len(build(inside)) == 10


def test_crops_are_a_grid_and_resampled_with_their_masks(folder):
    task = build(folder)
    assert task.describe()["images"] == {"crop_px": 25, "image_px": 16, "mpp": 0.25, "seen_mpp": [0.3906, 0.3906]}
    assert task.image_M.tolist() == [k for k in range(10) for _ in range(16)]
    image, types = nuclei(100, seed=401)
    crops = np.concatenate(list(task.batches(7)))
    for m, (y, x) in ((0, (0, 0)), (6, (25, 50)), (15, (75, 75))):
        part = Image.fromarray(image[y : y + 25, x : x + 25])
        np.testing.assert_array_equal(crops[m], np.asarray(part.resize((16, 16), Image.Resampling.BICUBIC)))
        nearest = ((np.arange(16) + 0.5) * 25 / 16).astype(int)
        np.testing.assert_array_equal(
            task.labels_MPP[m], merged(types)[y : y + 25, x : x + 25][np.ix_(nearest, nearest)]
        )
    other = build(folder, crop_px=20)
    assert len({task.data_hash(), other.data_hash(), build(folder, image_px=32).data_hash()}) == 3
    streamed = build(folder, cache_mib=0)
    np.testing.assert_array_equal(crops, np.concatenate(list(streamed.batches(64))))
    np.testing.assert_array_equal(task.labels_MPP, streamed.labels_MPP)


@pytest.mark.parametrize("crop_px", ["x", 0, 250.5])
def test_crops_that_are_no_number_of_pixels_are_refused(crop_px, folder):
    with pytest.raises(UserError, match=f"crop_px={crop_px}: give a whole number, at least 1"):
        build(folder, crop_px=crop_px)


def test_what_is_wrong_with_it_is_named(folder):
    with pytest.raises(UserError, match=r"CoNSeP is not at .*It is to be had from https://warwick"):
        build(folder / "nowhere")
    with pytest.raises(UserError, match=r"not as published: 6 of 27 in train; 4 of 14 in val\. Unpack"):
        build(folder, counts={"train": 27, "val": 14})
    image, types = nuclei(100, seed=1)
    types[0, 0] = 8
    write(folder, "Train", 3, image, types)
    with pytest.raises(UserError, match=r"train_3\.mat has the type 8, and CoNSeP's types are 0 to 7"):
        build(folder)
    write(folder, "Train", 3, image, np.where(types == 8, 0.5, types))
    with pytest.raises(UserError, match=r"has the type 0\.5"):
        build(folder)
    write(folder, "Train", 3, image, types[:50] % 8)
    with pytest.raises(UserError, match=r"train_3\.png is 100 x 100 px and its mask .*train_3\.mat 100 x 50"):
        build(folder)
    mask = folder / "Train" / "Labels" / "train_3.mat"
    scipy.io.savemat(mask, {"inst_map": types})
    with pytest.raises(UserError, match="has no map of types"):
        build(folder)
    mask.write_bytes(b"no MATLAB file" * 20)
    with pytest.raises(UserError, match=r"train_3\.mat cannot be read as a MATLAB file"):
        build(folder)
    write(folder, "Train", 3, image, types % 8)
    content = mask.read_bytes()
    mask.write_bytes(content[:200] + b"\x00\xff" * 40 + content[280:])  # within what is compressed
    with pytest.raises(UserError, match=r"train_3\.mat cannot be read as a MATLAB file"):
        build(folder)
    mask.unlink()
    with pytest.raises(UserError, match=r"not whole: Train/Labels/train_3\.mat is not in"):
        build(folder)
    write(folder, "Train", 3, image, types % 8)
    (folder / "Test" / "Images" / "test_1.png").rename(folder / "Train" / "Images" / "test_1.png")
    with pytest.raises(UserError, match=r"Train/Images/test_1\.png does not belong there: Train has train_1\.png"):
        build(folder)
