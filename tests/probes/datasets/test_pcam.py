"""PCam as it is handed out, in miniature: its splits and labels, images streamed from HDF5, eva's ten shots, and what is wrong with it."""

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from miniatures_pcam import COUNTS, pcam, write_meta
from PIL import Image

from pathssl.errors import UserError
from pathssl.probes.datasets.pcam import pcam_task

SETTINGS = {"counts": COUNTS, "shots": None, "shots_seed": 42}
SETTINGS |= {"image_px": 96, "val_fraction": 0.2, "threads": 2, "cache_mib": 0}
STEM = "camelyonpatch_level_2_split"


@pytest.fixture
def folder(tmp_path):
    return pcam(tmp_path / "pcam")


def build(folder, **changes):
    return pcam_task(path=str(folder), **SETTINGS | changes)


def arrays(folder, split):
    with h5py.File(folder / f"{STEM}_{split}_x.h5") as x, h5py.File(folder / f"{STEM}_{split}_y.h5") as y:
        return x["x"][:], y["y"][:].reshape(-1)


def test_every_image_is_where_its_file_has_it_with_its_label(folder):
    task = build(folder)
    images = np.concatenate(list(task.batches(7)))
    assert task.classes == ("no_tumor", "tumor")
    for name, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        here = task.splits_N == split
        x, y = arrays(folder, name)
        np.testing.assert_array_equal(images[here], x)
        np.testing.assert_array_equal(task.labels_N[here], y)
        assert task.ids_N[here].tolist() == [f"{name}/{n:06d}" for n in range(COUNTS[split])]
    assert task.describe()["images"] == {
        "shorter_side_px": [96, 96],
        "image_px": 96,
        "mpp": 0.972,
        "seen_mpp": [0.972, 0.972],
    }
    assert build(folder, image_px=224).describe()["images"]["seen_mpp"] == [0.4166, 0.4166]


@pytest.mark.parametrize("chunk_rows", [1, 7, 64])
def test_files_in_compressed_chunks_and_images_kept_in_memory_are_the_same(folder, tmp_path, chunk_rows):
    plain = np.concatenate(list(build(folder).batches(64)))
    other = build(pcam(tmp_path / "other", compressed=True, chunk_rows=chunk_rows))
    np.testing.assert_array_equal(plain, np.concatenate(list(other.batches(13))))
    kept, rows = build(folder, cache_mib=10), np.array([0, 3, 31, 60, 88, 109])
    for _ in range(2):
        np.testing.assert_array_equal(plain, np.concatenate(list(kept.batches(50))))
        for task in (kept, other):
            np.testing.assert_array_equal(plain[rows], np.concatenate(list(task.images.some(rows, 4))))


def test_they_are_resized_as_images_of_files_are(folder):
    seen = next(build(folder, image_px=32).batches(1))[0]
    first = Image.fromarray(arrays(folder, "test")[0][0])  # ids begin with test
    np.testing.assert_array_equal(seen, np.asarray(first.resize((32, 32), Image.Resampling.BICUBIC)))


def test_slides_are_groups_where_the_tables_are_there(folder):
    task = build(folder)
    assert task.grouped
    assert task.describe()["splits"]["train"]["groups"] == 12
    assert task.groups_N[-1] == task.slides_N[-1] == "camelyon16_val_003"
    (folder / f"{STEM}_test_meta.csv").unlink()
    assert not build(folder).grouped
    write_meta(folder, "test", ["camelyon16_train_000"] * 30, [0] * 30)
    with pytest.raises(UserError, match=r"group 'camelyon16_train_000' has samples in test and train"):
        build(folder)
    write_meta(folder, "test", ["a"] * 29, [0] * 29)
    with pytest.raises(UserError, match="names the slides of 29 images, and there are 30"):
        build(folder)
    (folder / f"{STEM}_test_meta.csv").write_text("slide\na\n")
    with pytest.raises(UserError, match="needs the column wsi"):
        build(folder)


def test_the_shots_are_those_that_eva_draws(folder):
    task = build(folder, shots=3)
    drawn = [int(name.split("/")[1]) for name in task.ids_N[task.splits_N == "train"]]
    assert drawn == [
        3,
        9,
        32,
        36,
        48,
        52,
    ]  # by kaiko-eva 0.4.5's own BalancedSampler(num_samples=3), on these labels, in each run
    assert np.bincount(task.labels_N[task.splits_N == "train"]).tolist() == [3, 3]
    assert [(task.splits_N == name).sum() for name in ("val", "test")] == [20, 30]
    images = np.concatenate(list(task.batches(16)))
    np.testing.assert_array_equal(images[30:36], arrays(folder, "train")[0][drawn])
    assert task.data_hash() != build(folder, shots=3, shots_seed=1).data_hash()
    with pytest.raises(UserError, match="shots=31: give 1 to 30 images a class"):
        build(folder, shots=31)


def test_features_are_known_by_files_sizes_and_pixels(folder):
    known = build(folder).data_hash()
    assert known == build(folder, threads=1).data_hash() != build(folder, image_px=64).data_hash()
    pcam(folder)  # written again
    assert known != build(folder).data_hash()


def test_what_is_wrong_with_it_is_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"PCam is not at .*nowhere\. It is to be had from https://zenodo"):
        build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"not as published: 60 of 262144 in train .*no_tumor 30, tumor 30"):
        build(folder, counts={"train": 262144, "val": 20, "test": 30})
    assert len(build(folder, counts=None)) == 110
    x, y = folder / f"{STEM}_valid_x.h5", folder / f"{STEM}_valid_y.h5"
    content = x.read_bytes()
    (folder / f"{x.name}.gz").write_bytes(gzip.compress(content[:100]))
    x.unlink()
    with pytest.raises(UserError, match=r"split_valid_x\.h5\.gz is still packed.*gunzip it"):
        build(folder)
    (folder / f"{x.name}.gz").unlink()
    with pytest.raises(UserError, match=r"not whole: .*split_valid_x\.h5 is not in"):
        build(folder)
    x.write_bytes(content[:-1000])
    with pytest.raises(UserError, match=r"valid_x\.h5 cannot be read as HDF5 .*truncated"):
        build(folder)
    x.write_bytes(content)
    for data, said in (
        (np.zeros((19, 1, 1, 1), np.uint8), "has 20 images and .* 19 labels"),
        (np.full((20, 1, 1, 1), 2, np.uint8), "has the label 2"),
        (np.zeros((20, 1), np.uint8), "is uint8 of shape .20, 1.; uint8 of N x 1 x 1 x 1 was expected"),
    ):
        with h5py.File(y, "w") as file:
            file.create_dataset("y", data=data)
        with pytest.raises(UserError, match=said):
            build(folder)
    with h5py.File(y, "w") as file:
        file.create_dataset("labels", data=data)
    with pytest.raises(UserError, match=r"has no array 'y' \(it has labels\)"):
        build(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shots": "ten"}, "shots=ten: give a whole number, at least 1"),
        ({"shots": 1.5}, "shots=1.5: give a whole number"),
        ({"shots": 0}, "shots=0: give a whole number, at least 1"),
        ({"shots_seed": -1}, "shots_seed=-1: give a whole number, at least 0"),
        ({"counts": 5}, "counts=5: give the images of each split, as in"),
        ({"counts": {"train": "60"}}, "counts={'train': '60'}: give the images"),
        ({"counts": {"train": {"tumor": None}}}, "counts=.*None.*: give the images"),
        ({"path": None}, "path=null: give a path"),
        ({"image_px": "large"}, "image_px=large: give a whole number"),
        ({"val_fraction": None}, "val_fraction=null: give a share"),
        ({"cache_mib": "much"}, "cache_mib=much: give MiB"),
    ],
)
def test_what_was_mistyped_is_named(changes, says, folder):
    with pytest.raises(UserError, match=says):
        pcam_task(**{"path": str(folder), **SETTINGS, **changes})


def test_label_files_of_two_splits_in_each_others_place_are_found_by_the_counts_of_classes(tmp_path):
    folder = pcam(tmp_path / "pcam", counts={"train": 60, "val": 20, "test": 20})
    known = {
        "train": {"no_tumor": 30, "tumor": 30},
        "val": {"no_tumor": 11, "tumor": 9},
        "test": {"no_tumor": 8, "tumor": 12},
    }
    files = {name: folder / f"{STEM}_{name}_y.h5" for name in ("valid", "test")}
    for file, tumors in zip(files.values(), (9, 12), strict=True):
        with h5py.File(file, "w") as h5:
            h5.create_dataset("y", data=(np.arange(20) < tumors).astype(np.uint8).reshape(-1, 1, 1, 1))
    assert len(build(folder, counts=known)) == 100
    files["valid"].rename(folder / "aside")
    files["test"].rename(files["valid"])
    (folder / "aside").rename(files["test"])
    with pytest.raises(
        UserError, match="not as published: 8 of 11 in val/no_tumor; 12 of 9 in val/tumor; 11 of 8 in test/no_tumor"
    ):
        build(folder, counts=known)


def test_the_config_has_the_published_counts_of_every_class():
    counts = yaml.safe_load((Path(__file__).parents[3] / "conf" / "task" / "pcam.yaml").read_text())["counts"]
    assert all(tuple(of) == ("no_tumor", "tumor") for of in counts.values())
    assert {split: sum(of.values()) for split, of in counts.items()} == {"train": 262144, "val": 32768, "test": 32768}
    assert [of["tumor"] for of in counts.values()] == [131072, 16369, 16377]


def test_a_chunk_that_cannot_be_unpacked_is_named(tmp_path):
    folder = pcam(tmp_path, compressed=True)
    with h5py.File(folder / f"{STEM}_test_x.h5") as file:
        place = file["x"].id.get_chunk_info(1)
    with open(folder / f"{STEM}_test_x.h5", "r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\0" * place.size)
    with pytest.raises(UserError, match=r"test_x\.h5 cannot be read at images 0 to 29"):
        list(build(folder).batches(16))
