"""A folder of masks is checked before anything is trained, and cut into crops in a fixed way."""

import numpy as np
import pytest
from PIL import Image

from pathssl.errors import UserError
from pathssl.probes.segmentation.masks import IGNORED
from pathssl.sources import task_hash


def test_every_pixel_of_every_image_is_in_one_crop_with_its_label_and_the_rest_is_ignored(task, folder, make_mask):
    crops, labels = np.concatenate(list(task.batches(5))), task.labels_MPP
    assert crops.shape == (4 * 6 + 6 * 6, 16, 16, 3) and labels.shape == crops.shape[:3]
    assert task.classes == ("0", "1", "2")
    for k in range(12):
        mask, picture = make_mask(k), np.asarray(Image.open(folder / f"{k:02d}.png"))
        here = np.flatnonzero(task.image_M == k)
        columns = -(-mask.shape[1] // 16)
        whole = np.full((32, 16 * columns), IGNORED)
        seen = np.full((32, 16 * columns, 3), 255)
        for place, m in enumerate(here):
            y, x = 16 * (place // columns), 16 * (place % columns)
            whole[y : y + 16, x : x + 16] = labels[m]
            seen[y : y + 16, x : x + 16] = crops[m]
        assert np.array_equal(whole[:, : mask.shape[1]], mask) and (whole[:, mask.shape[1] :] == IGNORED).all()
        assert np.array_equal(seen[:, : mask.shape[1]], picture) and (seen[:, mask.shape[1] :] == 255).all()


def test_batches_and_labels_are_the_same_however_little_stays_in_memory(build):
    kept, streamed = build(), build(cache_mib=0, threads=1)
    assert isinstance(streamed.labels_MPP, np.memmap) and not isinstance(kept.labels_MPP, np.memmap)
    assert np.array_equal(kept.labels_MPP, streamed.labels_MPP)
    for _ in range(2):  # the second time from memory, or decoded again
        ours, theirs = list(kept.batches(7)), list(streamed.batches(7))
        assert [len(batch) for batch in theirs] == [7] * 8 + [4]
        assert np.array_equal(np.concatenate(ours), np.concatenate(theirs))


def test_masks_may_be_arrays_and_the_task_is_the_same(build, folder, rows, write_table, make_mask):
    before = task_hash(build())
    for k, row in enumerate(rows):
        row["mask"] = f"{k}.npz" if k % 2 else f"{k}.npy"
        save = np.savez if k % 2 else np.save
        save(folder / row["mask"], make_mask(k).astype(np.int32))
    write_table(folder, rows[::-1])
    assert task_hash(build()) == before
    rows[0]["mask"] = "2.npy"
    write_table(folder, rows)
    assert task_hash(build()) != before


def test_values_become_classes_and_some_are_ignored(build, folder, make_mask):
    Image.fromarray(np.where(make_mask(0) == 2, 250, make_mask(0)).astype(np.uint8)).save(folder / "00_mask.png")
    assert build().classes == ("0", "1", "2", "250")
    task = build(ignore=250)
    assert task.classes == ("0", "1", "2")
    assert set(np.unique(task.labels_MPP[task.image_M == 0])) == {0, 1, IGNORED}
    assert task.pixels_NK[0].tolist() == [(make_mask(0) == 0).sum(), (make_mask(0) == 1).sum(), 0]


def test_numbered_objects_are_one_class(build):
    task = build(instances=True, classes=["background", "object"])
    assert task.classes == ("background", "object") and set(np.unique(task.labels_MPP)) == {0, 1, IGNORED}
    assert task.pixels_NK.sum() == sum(32 * (40 if k % 2 else 32) for k in range(12))


def test_without_validation_whole_groups_of_train_are_taken(build, rows, folder, write_table):
    for row in rows:
        row["split"] = row["split"].replace("val", "train")
    write_table(folder, rows)
    task = build()
    groups = {name: set(task.groups_N[task.splits_N == name]) for name in ("train", "val", "test")}
    assert task.val_taken_from_train and len(groups["val"]) == 1 and len(groups["train"]) == 3
    assert not groups["val"] & groups["train"] and task.evaluated() == ("val", "test")


BAD = {
    "straddles": (lambda rows: rows[6].update(group_id="case0"), "'case0' has samples in train and val"),
    "absent image": (lambda rows: rows[0].update(path="no.png"), "no.png not found"),
    "absent mask": (lambda rows: rows[0].update(mask="no.png"), r"mask .*no.png of .*00.png is not there"),
    "other size": (lambda rows: rows[0].update(mask="01_mask.png"), "00.png is 32 x 32 px and its mask .* 40 x 32"),
    "colours": (lambda rows: rows[0].update(mask="00.png"), "00.png is an image of mode RGB"),
    "twice": (lambda rows: rows[0].update(path="01.png"), "01.png stands in more than one row"),
    "no train": (lambda rows: [row.update(split="test") for row in rows], "no row has split train"),
}


@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_a_table_that_cannot_be_right_is_refused_by_name(build, rows, folder, write_table, spoil, says):
    spoil(rows)
    write_table(folder, rows)
    with pytest.raises(UserError, match=says):
        build()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"classes": ["background", "square"]}, r"00_mask.png has the value 2 \(as do 11 more masks\).*0 background, 1 square"),
        ({"classes": list("abcd")}, "no mask of train has class 'd'"),
        ({"classes": "abc"}, "give a list of names"),
        ({"instances": True}, "name two"),
        ({"ignore": 0}, "background=true, and no mask has the value 0"),
        ({"image_px": 0}, "image_px=0"),
        ({"val_fraction": 0.9}, "val_fraction=0.9"),
        ({"table": "no.csv"}, "no.csv is not there. A folder of masks holds a no.csv with the columns path, mask, split"),
        ({"image_column": "image"}, "lacks the column image"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_masks_are_refused(build, changed, says):
    with pytest.raises(UserError, match=says):
        build(**changed)


def test_a_mask_that_cannot_be_read_is_named(build, folder, rows, write_table):
    (folder / "00_mask.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"00_mask\.png cannot be decoded"):
        build()
    rows[0]["mask"] = "two.npz"
    np.savez(folder / "two.npz", a=np.zeros((32, 32), int), b=np.zeros((32, 32), int))
    write_table(folder, rows)
    with pytest.raises(UserError, match=r"two.npz holds 2 arrays \(a, b\)"):
        build()


def test_a_split_with_background_alone_cannot_be_scored(build, folder):
    for k in (6, 7):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(folder / f"{k:02d}_mask.png")))).save(
            folder / f"{k:02d}_mask.png"
        )
    with pytest.raises(UserError, match="no mask of val has any class but the background"):
        build()
