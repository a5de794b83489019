"""The published datasets of images beside BACH, in miniature: splits, order of classes, groups, and which faults are found and named."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import miniatures
import numpy as np
import pytest
import yaml

from pathssl.errors import UserError
from pathssl.probes.datasets.bracs import bracs_task
from pathssl.probes.datasets.breakhis import breakhis_task
from pathssl.probes.datasets.crc import crc_task
from pathssl.probes.datasets.gleason import gleason_task
from pathssl.probes.datasets.mhist import mhist_task

IMAGES = {"image_px": 16, "val_fraction": 0.2, "threads": 2, "cache_mib": 10}
CRC, BRACS = miniatures.CRC_CLASSES, miniatures.BRACS_CLASSES
CONF = Path(__file__).parents[3] / "conf" / "task"
BREAST = "BreaKHis_v1/histology_slides/breast"
ROIS = "BRACS_RoI/latest_version"


@dataclass
class Published:
    """A dataset in miniature, its task and what its miniature has of each split."""

    write: object
    task: object
    counts: dict
    classes: tuple
    size: dict
    scored: bool = True

    def open(self, folder: Path, **changes):
        settings = {"counts": self.counts, **IMAGES, **({"scored": "val"} if self.scored else {})}
        return self.task(path=str(folder), **settings | changes)


SMALL = {"size": (28, 20)}
EVERY = {
    "crc": Published(
        miniatures.crc, crc_task, {"train": dict.fromkeys(CRC, 6), "val": dict.fromkeys(CRC, 3)}, CRC, SMALL
    ),
    "mhist": Published(
        miniatures.mhist, mhist_task, {"train": {"SSA": 8, "HP": 12}, "test": {"SSA": 4, "HP": 6}}, ("SSA", "HP"), SMALL
    ),
    # Of the 7, 9, 10 and 38 patients of a class 2, 2, 3 and 7 are in val.
    "breakhis": Published(
        miniatures.breakhis,
        breakhis_task,
        {"train": {"TA": 5, "MC": 7, "F": 7, "DC": 31}, "val": {"TA": 2, "MC": 2, "F": 3, "DC": 7}},
        ("TA", "MC", "F", "DC"),
        SMALL,
    ),
    "bracs": Published(
        miniatures.bracs,
        bracs_task,
        {"train": dict.fromkeys(BRACS, 6), "val": 21, "test": 21},
        BRACS,
        {"sizes": ((31, 20), (17, 40), (50, 44))},
        scored=False,
    ),
    "gleason": Published(
        miniatures.gleason,
        gleason_task,
        {"train": 48, "val": 16, "test": 16},
        ("benign", "gleason_3", "gleason_4", "gleason_5"),
        SMALL,
        scored=False,
    ),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each dataset's folder, not to be changed."""
    root = tmp_path_factory.mktemp("published")
    return {name: of.write(root / name, **of.size) for name, of in EVERY.items()}


@pytest.fixture
def spoilt(written, tmp_path):
    """`spoilt(name)`: a copy that may be spoilt; its files are no links."""
    return lambda name: Path(shutil.copytree(written[name], tmp_path / name))


def by_split(task) -> dict[str, int]:
    return {str(name): int(n) for name, n in zip(*np.unique(task.splits_N, return_counts=True), strict=True)}


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("crc", {"train": 54, "val": 27}),
        ("mhist", {"train": 20, "val": 10}),
        ("breakhis", {"train": 50, "val": 14}),
        ("bracs", {"train": 42, "val": 21, "test": 21}),
        ("gleason", {"train": 48, "val": 16, "test": 16}),
    ],
)
def test_each_has_its_classes_in_their_order_and_its_splits(name, splits, written):
    of = EVERY[name]
    task = of.open(written[name])
    assert task.classes == of.classes and by_split(task) == splits
    assert [len(batch) for batch in task.batches(1000)] == [len(task)]


@pytest.mark.parametrize(
    ("name", "totals"),
    [  # as eva's dataset classes have them
        ("crc", {"train": 100000, "val": 7180}),
        ("mhist", {"train": 2175, "test": 977}),
        ("breakhis", {"train": 1132, "val": 339}),
        ("bracs", {"train": 3657, "val": 312, "test": 570}),
        ("gleason", {"train": 15303, "val": 2482, "test": 4967}),
    ],
)
def test_the_config_has_the_published_counts_of_every_class(name, totals):
    counts = yaml.safe_load((CONF / f"{name}.yaml").read_text())["counts"]
    by_class = {split: of for split, of in counts.items() if isinstance(of, dict)}
    assert {split: sum(of.values()) if split in by_class else of for split, of in counts.items()} == totals
    assert all(tuple(of) == EVERY[name].classes for of in by_class.values()) and (by_class or name == "gleason")


def test_crc_takes_classes_from_folders(written):
    task = EVERY["crc"].open(written["crc"])
    assert [task.classes[k] for k in task.labels_N] == [path.split("/")[1] for path in task.ids_N]
    assert [name for name in task.ids_N if "/ADI/" in name and "VAL" in name] == [
        f"CRC-VAL-HE-7K/ADI/ADI-TCGA-AAAAAAA{letter}.tif" for letter in "AHO"
    ]
    assert set(task.splits_N[["VAL" in path for path in task.ids_N]]) == {"val"} and not task.grouped


def test_mhist_takes_labels_and_parts_from_its_table(written):
    task = EVERY["mhist"].open(written["mhist"])
    lines = (written["mhist"] / "annotations.csv").read_text().splitlines()[1:]
    said = {name: (label, part) for name, label, _, part in (line.split(",") for line in lines)}
    assert [path.split("/")[1] for path in task.ids_N] == sorted(said)
    for path, label, split in zip(task.ids_N, task.labels_N, task.splits_N, strict=True):
        assert said[path.split("/")[1]] == (("SSA", "HP")[label], {"train": "train", "val": "test"}[split])
    tested = EVERY["mhist"].open(written["mhist"], scored="test")
    assert by_split(tested)["test"] == 10 and tested.val_taken_from_train


def test_breakhis_is_split_by_patient_and_takes_four_types_at_40x(written):
    task = EVERY["breakhis"].open(written["breakhis"])
    assert all("-40-" in path and "/40X/" in path for path in task.ids_N)
    val = task.splits_N == "val"
    assert len(set(task.groups_N)) == 64 and len(set(task.groups_N[val])) == 14
    of = {group.split("-")[1]: split for group, split in zip(task.groups_N, task.splits_N, strict=True)}
    assert (of["16184"], of["16184CD"], of["21998EF"], of["9461"]) == ("train", "val", "val", "train")
    kinds = {path.split("/")[5]: task.classes[k] for path, k in zip(task.ids_N, task.labels_N, strict=True)}
    assert kinds == {"tubular_adenoma": "TA", "mucinous_carcinoma": "MC", "fibroadenoma": "F", "ductal_carcinoma": "DC"}


def test_bracs_and_gleason_have_slides_and_cores_as_groups(written):
    task = EVERY["bracs"].open(written["bracs"])
    assert [path.split("/")[2] for path in task.ids_N] == task.splits_N.tolist()
    assert all(Path(path).name.startswith(f"{group}_") for path, group in zip(task.ids_N, task.groups_N, strict=True))
    assert set(task.groups_N[task.splits_N == "train"]) == {"BRACS_264", "BRACS_265"}
    task = EVERY["gleason"].open(written["gleason"])
    arrays = {group.split("_")[0]: split for group, split in zip(task.groups_N, task.splits_N, strict=True)}
    assert arrays == {"ZT111": "train", "ZT199": "train", "ZT204": "train", "ZT76": "val", "ZT80": "test"}
    assert [int(path[-5]) for path in task.ids_N] == task.labels_N.tolist() and "patho_2" not in "".join(task.ids_N)


@pytest.mark.parametrize(
    ("name", "lost", "says"),
    [
        ("crc", "CRC-VAL-HE-7K/MUS/MUS-TCGA-AAAAAAAH.tif", r"CRC in .* is not as published: 2 of 3 in val/MUS\. Unpack"),
        ("crc", "NCT-CRC-HE-100K", r"CRC is not whole: NCT-CRC-HE-100K is not in .*zenodo\.org/records/1214456"),
        ("crc", "NCT-CRC-HE-100K/DEB", r"CRC is not whole: DEB is not in .*NCT-CRC-HE-100K"),
        ("mhist", "annotations.csv", r"MHIST is not whole: annotations\.csv is not in .*bmirds\.github\.io/MHIST"),
        ("mhist", "images/MHIST_aac.png", r"images/MHIST_aac\.png not found under .*mhist"),
        ("breakhis", f"{BREAST}/malignant/SOB/ductal_carcinoma/SOB_M_DC_14-9461", r"30 of 31 in train/DC"),
        ("breakhis", f"{BREAST}/benign/SOB/fibroadenoma", r"BreaKHis is not whole: benign/SOB/fibroadenoma is not in .*inf\.ufpr\.br"),
        ("bracs", f"{ROIS}/train/4_ADH/BRACS_265_ADH_3.png", r"BRACS in .* is not as published: 5 of 6 in train/4_ADH"),
        ("bracs", f"{ROIS}/test/6_IC/BRACS_2264_IC_1.png", r"20 of 21 in test \(of test: 0_N 3, .*, 6_IC 2\)"),
        ("bracs", f"{ROIS}/val", r"BRACS is not whole: val is not in .*www\.bracs\.icar\.cnr\.it"),
        ("gleason", "test_patches_750/patho_1/ZT80_40_A_1_2", r"8 of 16 in test"),
        ("gleason", "train_validation_patches_750", r"Gleason is not whole: train_validation_patches_750 .*10\.7910/DVN/OCYCMP"),
    ],
)  # fmt: skip
def test_what_is_missing_is_counted_and_named(name, lost, says, spoilt):
    folder = spoilt(name)
    path = folder / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=says):
        EVERY[name].open(folder)


@pytest.mark.parametrize("name", EVERY)
def test_whoever_has_none_is_told_where_it_is_to_be_had(name, tmp_path):
    with pytest.raises(UserError, match=r"is not at .*nowhere\. It is to be had from http"):
        EVERY[name].open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "here", "there", "says"),
    [
        # A shuffled split, and a shuffled class.
        ("crc", "NCT-CRC-HE-100K/ADI/ADI-AAAAAAAH.tif", "NCT-CRC-HE-100K/TUM", r"TUM/ADI-AAAAAAAH\.tif does not belong there"),
        ("crc", "NCT-CRC-HE-100K/ADI", "NCT-CRC-HE-100K/FAT", r"FAT does not belong there: its classes are ADI, BACK, DEB"),
        ("breakhis", "benign/SOB/fibroadenoma/SOB_B_F_14-9133", "benign/SOB/tubular_adenoma/SOB_B_F_14-9133",
         r"9133-40-001\.png does not belong there: by its name its place is benign/SOB/fibroadenoma/SOB_B_F_14-9133/40X"),
        ("breakhis", "benign/SOB/fibroadenoma/SOB_B_F_14-9133", "benign/SOB/fibroadenoma/SOB_B_F_14-25197X",
         r"its place is benign/SOB/fibroadenoma/SOB_B_F_14-9133/40X"),
        ("breakhis", "benign/SOB/adenosis/SOB_B_A_14-22549G/40X/SOB_B_A-14-22549G-40-001.png",
         "benign/SOB/adenosis/SOB_B_A_14-22549G/40X/SOB_B_AX-14-22549G-40-001.png", r"one of the types A, F, PT"),
        ("bracs", "train/0_N/BRACS_264_N_1.png", "train/6_IC", r"6_IC/BRACS_264_N_1\.png .*train/6_IC has names as BRACS_264_IC_1\.png"),
        ("bracs", "train/0_N/BRACS_264_N_1.png", "test/0_N/BRACS_264_N_1.png", r"group 'BRACS_264' has samples in test and train"),
        ("bracs", "val/3_FEA", "val/7_FEA", r"BRACS is not whole: 3_FEA is not in .*val"),
        ("gleason", "train_validation_patches_750/ZT76_40_A_1_2", "test_patches_750/patho_1/ZT76_40_A_1_2",
         r"by its name its place is train_validation_patches_750/ZT76_40_A_1_2"),
        ("gleason", "train_validation_patches_750/ZT76_40_A_1_2", "train_validation_patches_750/ZT111_50_A_1_2",
         r"its place is train_validation_patches_750/ZT76_40_A_1_2"),
        ("gleason", "train_validation_patches_750/ZT76_40_A_1_2/ZT76_40_A_1_2_patch_30_class_3.jpg",
         "train_validation_patches_750/ZT76_40_A_1_2/ZT76_40_A_1_2_patch_30_class_4.jpg", r"class_4\.jpg does not belong .*classes 0 to 3"),
    ],
)  # fmt: skip
def test_what_is_in_another_place_than_its_name_says_is_named(name, here, there, says, spoilt):
    folder = spoilt(name)
    within = folder / {"breakhis": BREAST, "bracs": ROIS}.get(name, "")
    shutil.move(within / here, within / there)
    if name == "crc" and there.endswith("FAT"):
        (within / here).mkdir()
    with pytest.raises(UserError, match=says):
        EVERY[name].open(folder, counts=None)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("MHIST_aab.png,HP,1", "MHIST_aab.png,SSA,1", r"MHIST_aab\.png is labelled 'SSA', but 1 of 7 annotators selected SSA, .* it HP\."),
        ("MHIST_aab.png,HP,1", "MHIST_aab.png,HP,4", r"labelled 'HP', but 4 of 7 annotators selected SSA, which makes it SSA\."),
        ("MHIST_aab.png,HP,1", "MHIST_aab.png,hp,1", r"labelled 'hp', but 1 of 7"),
        (",HP,", ",polyp,", r"MHIST_aab\.png is labelled 'polyp', .*, and 17 more labels are not theirs\. It is to be had"),
        ("MHIST_aab.png,HP,1", "MHIST_aab.png,HP,8", r"MHIST_aab\.png has '8' in 'Number of Annotators .* from 0 to 7"),
        ("MHIST_aab.png,HP,1,train", "MHIST_aab.png,HP,1,test", r"not as published: 11 of 12 in train/HP; 7 of 6 in test/HP"),
        ("MHIST_aab.png,HP,1,train", "MHIST_aab.png,HP,1,held", r"11 of 12 in train/HP; 1 of 0 in held"),
        ("MHIST_aab.png,HP,1,train\n", "", r"MHIST_aab\.png does not belong there: annotations\.csv does not list it\."),
        ("MHIST_aab.png,HP,1,train\n", "MHIST_aac.png,HP,1,train\n", r"MHIST_aab\.png does not belong there"),
        (",Partition", ",Part", r"lacks the column Partition"),
    ],
)  # fmt: skip
def test_mhists_table_is_held_against_votes_and_images(old, new, says, spoilt):
    folder = spoilt("mhist")
    text = (folder / "annotations.csv").read_text()
    assert old in text
    (folder / "annotations.csv").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=says):
        EVERY["mhist"].open(folder)


def test_an_image_that_is_listed_twice_or_under_an_unknown_part_is_named(spoilt):
    folder = spoilt("mhist")
    table = folder / "annotations.csv"
    text = table.read_text()
    table.write_text(text + "MHIST_aab.png,HP,1,train\n")
    with pytest.raises(UserError, match=r"images/MHIST_aab\.png stands in more than one row"):
        EVERY["mhist"].open(folder, counts=None)
    table.write_text(text.replace("MHIST_aab.png,HP,1,train", "MHIST_aab.png,HP,1,held"))
    with pytest.raises(UserError, match=r"unknown split 'held'"):
        EVERY["mhist"].open(folder, counts=None)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_truncated_image_is_named_when_it_is_looked_at(name, share, spoilt):
    folder = spoilt(name)
    task = EVERY[name].open(folder)
    image = folder / task.ids_N[0]
    image.write_bytes(image.read_bytes()[: int(share * image.stat().st_size)])
    with pytest.raises(UserError, match=f"{image.name} cannot be decoded"):
        list(task.batches(1000))
    if share < 0.1:
        with pytest.raises(UserError, match=f"{image.name} cannot be decoded"):
            task.describe()
