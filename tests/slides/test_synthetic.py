"""The synthetic cohort: files that real readers open, honest splits, and colour that gives tissue away only in part."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from skimage.color import rgb2hed
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathssl.errors import UserError
from pathssl.slides.synthetic import TISSUES, cohort, write_cohort
from pathssl.slides.synthetic.layout import slide_plan

SETTINGS = {
    "seed": 0,
    "cases": 2,
    "sites": 2,
    "slide_px": 1024,
    "mpp": 0.5,
    "labelled_cases": 10,
    "patches_per_class": 5,
    "patch_px": 64,
    "patch_mpp": 1.0,
    "nuclei_fields": 1,
    "workers": 2,
    "progress": False,
}
TINY = SETTINGS | {"cases": 1, "slide_px": 512, "sites": 1, "labelled_cases": 3, "patches_per_class": 1, "workers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("synthetic") / "cohort", **SETTINGS)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_openslide_cucim_and_tifffile_see_the_same_pyramid_mpp_and_pixels(folder: Path):
    path = folder / table(folder / "manifest.csv")[0]["slide"]
    cucim = pytest.importorskip("cucim")
    by_openslide, by_cucim = openslide.OpenSlide(path), cucim.CuImage(str(path))
    sizes = ((1024, 1024), (512, 512))
    assert by_openslide.level_dimensions == sizes
    assert by_cucim.resolutions["level_dimensions"] == sizes
    assert float(by_openslide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    assert by_cucim.spacing()[:2] == pytest.approx([0.5, 0.5])
    assert by_cucim.spacing_units()[:2] == ["micrometer", "micrometer"]
    with tifffile.TiffFile(path) as file:
        for level, page in enumerate(file.pages):
            pixels_per_unit, unit = page.tags["XResolution"].value, page.tags["ResolutionUnit"].value
            assert unit == tifffile.RESUNIT.CENTIMETER
            assert 1e4 * pixels_per_unit[1] / pixels_per_unit[0] == pytest.approx(0.5 * 2**level)
            assert page.is_tiled and page.is_reduced == (level > 0) and page.compression == tifffile.COMPRESSION.JPEG
            pixels = page.asarray()[100:400, 50:350]
            corner = (50 * 2**level, 100 * 2**level)
            by_name = {
                "openslide": by_openslide.read_region(corner, level, (300, 300)).convert("RGB"),
                "cucim": by_cucim.read_region(corner, (300, 300), level=level),
            }
            for name, picture in by_name.items():
                assert np.array_equal(np.asarray(picture), pixels), name


def test_each_level_is_the_finer_one_averaged(folder: Path):
    with tifffile.TiffFile(folder / "slides" / "case_000.tif") as file:
        fine, coarse = (page.asarray().astype(float) for page in file.pages)
    averaged = fine.reshape(512, 2, 512, 2, 3).mean(axis=(1, 3))
    assert np.abs(averaged - coarse).mean() < 4  # grey levels, lost in JPEG


def test_no_tissue_is_cut_by_the_border_of_a_slide(folder: Path):
    for row in table(folder / "manifest.csv"):
        picture = tifffile.imread(folder / row["slide"]).astype(float)
        rim = np.concatenate([picture[:8].reshape(-1, 3), picture[:, -8:].reshape(-1, 3)])
        assert rim.min() > 205
        assert (picture.min(axis=2) < 200).mean() > 0.05


def test_bytes_depend_on_the_seed_and_not_on_the_number_of_workers(tmp_path: Path):
    one, two, other = (
        digests(write_cohort(tmp_path / str(k), **TINY | more))
        for k, more in enumerate(({}, {"workers": 2}, {"seed": 1}))
    )
    assert one == two
    same = {name for name in one if one[name] == other[name]}
    assert same == {"manifest.csv", "labelled/labels.csv", "nuclei/nuclei.csv"}


def test_a_cohort_that_is_there_is_neither_made_again_nor_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = write_cohort(tmp_path / "cohort", **TINY)
    before = digests(made)
    monkeypatch.setattr(cohort, "write_slide", None)  # any work would fail
    assert write_cohort(made, **TINY | {"workers": 2}) == made
    with pytest.raises(UserError, match="seed: 0 there, 7 wanted"):
        write_cohort(made, **TINY | {"seed": 7})
    with pytest.raises(UserError, match="not a synthetic cohort"):
        write_cohort(tmp_path, **TINY)
    assert digests(made) == before


def test_a_cohort_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(cohort, "write_nuclei", fail)
    with pytest.raises(OSError, match="no space"):
        write_cohort(tmp_path / "cohort", **TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"labelled_cases": 5, "sites": 2}, "give 6"),
        ({"workers": 0}, "give 1 or more"),
        ({"mpp": 8.0}, "0.1 to 1"),
        ({"patch_mpp": 0.25}, "finer than the slides"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_sentence(tmp_path: Path, wrong: dict, said: str):
    with pytest.raises(UserError, match=said):
        write_cohort(tmp_path / "cohort", **SETTINGS | wrong)
    assert list(tmp_path.iterdir()) == []


def test_cases_are_in_one_split_only_and_never_both_labelled_and_among_the_slides(folder: Path):
    labels, nuclei = table(folder / "labelled" / "labels.csv"), table(folder / "nuclei" / "nuclei.csv")
    split_of = {row["group_id"]: row["split"] for row in labels}
    assert all(split_of[row["group_id"]] == row["split"] for row in labels + nuclei)
    assert set(split_of.values()) == {"train", "val", "test"}
    assert set(split_of).isdisjoint(row["case"] for row in table(folder / "manifest.csv"))


def test_every_case_shows_every_tissue_equally_often_in_pictures_that_exist(folder: Path):
    labels = table(folder / "labelled" / "labels.csv")
    pairs = {(row["group_id"], row["label"]) for row in labels}
    assert len(pairs) == 10 * len(TISSUES) and len(labels) == 5 * len(pairs)
    for row in labels:
        with Image.open(folder / "labelled" / row["path"]) as picture:
            assert picture.size == (64, 64) and picture.mode == "RGB"
    assert len(set(digests(folder / "labelled").values())) == len(labels) + 1  # no patch twice


def test_slides_hold_all_tissues_in_comparable_amounts():
    plans = [slide_plan(1536, 1.0, np.random.default_rng(seed)) for seed in range(6)]
    amounts_PT = np.array([np.bincount(plan.ravel(), minlength=1 + len(TISSUES)) / plan.size for plan in plans])
    glass_P, shares_T = amounts_PT[:, 0], amounts_PT[:, 1:].sum(axis=0) / amounts_PT[:, 1:].sum()
    assert glass_P.min() > 0.2 and glass_P.max() < 0.8
    assert shares_T.min() > 0.5 / len(TISSUES) and shares_T.max() < 2 / len(TISSUES)


def test_masks_number_nuclei_that_are_bluer_than_what_surrounds_them(folder: Path):
    for row in table(folder / "nuclei" / "nuclei.csv"):
        picture = np.asarray(Image.open(folder / "nuclei" / row["image"]))
        mask = np.asarray(Image.open(folder / "nuclei" / row["mask"]))
        assert mask.dtype == np.uint16 and mask.shape == picture.shape[:2] == (256, 256)
        numbers, areas_px = np.unique(mask[mask > 0], return_counts=True)
        assert len(numbers) > 5 and np.array_equal(numbers, np.arange(1, len(numbers) + 1))
        assert 15 < np.median(areas_px) * 0.5**2 < 150  # um^2: between a lymphocyte's and a tumour nucleus's
        haematoxylin = rgb2hed(picture)[..., 0]
        assert haematoxylin[mask > 0].mean() > haematoxylin[mask == 0].mean() + haematoxylin.std() / 2


def test_a_colour_histogram_does_not_solve_the_labelled_set(folder: Path):
    labels = table(folder / "labelled" / "labels.csv")
    pictures = [np.asarray(Image.open(folder / "labelled" / row["path"])) for row in labels]
    histograms = np.array([[np.histogram(x[..., c], 8, (0, 256))[0] for c in range(3)] for x in pictures])
    features, y = histograms.reshape(len(labels), -1), np.array([row["label"] for row in labels])
    train, test = (np.array([row["split"] == split for row in labels]) for split in ("train", "test"))
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(features[train], y[train])
    accuracy = balanced_accuracy_score(y[test], probe.predict(features[test]))
    assert 1 / len(TISSUES) < accuracy < 0.75
