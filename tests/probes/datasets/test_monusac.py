"""MoNuSAC as it is handed out, in miniature: masks drawn from outlines, ambiguous regions left out, cases kept whole, and what is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from miniatures_monusac import NAMES, PARTS, monusac, nuclei, write, xml

from pathssl.errors import UserError
from pathssl.probes.datasets.monusac import drawn, monusac_task
from pathssl.probes.segmentation.masks import IGNORED

SETTINGS = {"counts": {"train": 8, "val": 6}, "scored": "val", "crop_px": 100, "image_px": 100}
SETTINGS |= {"val_fraction": 0.25, "threads": 2, "cache_mib": 10}
EMPTY = '<Region Id="9"><Attributes /><Vertices></Vertices></Region>'
SLIDE = "TCGA-5P-A9K0-01Z-00-DX1"


@pytest.fixture
def folder(tmp_path):
    return monusac(tmp_path / "monusac")


def build(folder, **changes):
    return monusac_task(path=str(folder), **SETTINGS | changes)


def by_hand(size, found):
    """Which pixel centres lie in each outline, by matplotlib; class after class as the file has them, and of a class in its order."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    numbers = {name: k for k, name in enumerate((*NAMES, "Ambiguous"), 1)}
    for name, corners in sorted(found, key=lambda one: numbers[one[0]]):
        inside = Outline(corners).contains_points(np.stack([x, y], axis=-1).reshape(-1, 2)).reshape(height, width)
        mask[inside] = numbers[name]
    return mask


def test_masks_are_the_nuclei_within_their_outlines(folder):
    task = build(folder)
    assert task.classes == ("Background", *NAMES) and task.background == 0
    assert task.splits_N.tolist() == ["val"] * 6 + ["train"] * 8  # "MoNuSAC Testing ..." comes first
    for row, seed, size, names in (
        (6, 1, (60, 40), NAMES),
        (13, 302, (80, 70), NAMES),
        (3, 102, (80, 50), (*NAMES, "Ambiguous")),
    ):
        expected = by_hand(size, nuclei(size, seed=seed, names=names))
        here = task.labels_MPP[row]
        np.testing.assert_array_equal(here[: size[1], : size[0]], np.where(expected == 5, IGNORED, expected))
        assert (here[size[1] :] == IGNORED).all() and (here[:, size[0] :] == IGNORED).all()
        assert (expected == 5).any() == (len(names) == 5)
    assert task.pixels_NK[6].sum() == 60 * 40 and task.pixels_NK[3].sum() < 80 * 50


def test_cases_are_groups_and_slides_are_known(folder):
    task = build(folder)
    assert task.groups_N[[0, 6, -1]].tolist() == ["TCGA-2Z-A9K0", "TCGA-5P-A9K0", "TCGA-5P-A9K3"]
    assert task.slides_N[6] == SLIDE
    scored = build(folder, scored="test")
    assert scored.val_taken_from_train and scored.evaluated() == ("val", "test")
    of = {(group, split) for group, split in zip(scored.groups_N, scored.splits_N, strict=True)}
    assert len(of) == 7  # whole cases
    (folder / PARTS["val"] / SLIDE.replace("DX1", "DX2")).mkdir()
    for file in (folder / PARTS["train"] / SLIDE).glob("*_1.*"):
        file.rename(folder / PARTS["val"] / SLIDE.replace("DX1", "DX2") / file.name)
    with pytest.raises(UserError, match="group 'TCGA-5P-A9K0' has samples in train and val"):
        build(folder, counts=None)


def test_each_mask_is_drawn_once(folder, monkeypatch):
    calls = []
    monkeypatch.setattr("pathssl.probes.datasets.monusac.drawn", lambda path: calls.append(path) or drawn(path))
    task = build(folder)
    assert len(task.labels_MPP) == 14 and len(calls) == len(set(calls)) == 14


def test_what_is_wrong_with_it_is_named(folder):
    with pytest.raises(UserError, match=r"MoNuSAC is not at .*It is to be had from https://monusac-2020"):
        build(folder / "nowhere")
    with pytest.raises(UserError, match=r"not as published: 8 of 209 in train; 6 of 85 in val\."):
        build(folder, counts={"train": 209, "val": 85})
    outlines: Path = folder / PARTS["train"] / SLIDE / f"{SLIDE}_1.xml"
    content = outlines.read_text()
    for text, said in (
        (
            content.replace("Lymphocyte", "Plasma"),
            r"_1\.xml has nuclei of class 'Plasma', which is none of Background, Epithelial",
        ),
        (content[:-40], r"_1\.xml cannot be read as MoNuSAC's outlines"),
        (content.replace("<Attribute Name", "<Attribute Label"), "cannot be read as MoNuSAC's outlines"),
        (content.replace('X="', 'X="left'), "cannot be read as MoNuSAC's outlines"),
        (
            content.replace("</Regions>", f"{EMPTY}</Regions>"),
            r"region 9 of Epithelial has no corners",
        ),
        (content.replace('Y="', 'Y="inf" was="', 1), r"region 1 of Epithelial has a corner that is at no place"),
        (re.sub('X="[^"]*"', 'X="nan"', content, count=1), r"region 1 of Epithelial has a corner that is at no place"),
    ):
        outlines.write_text(text)
        with pytest.raises(UserError, match=said):
            build(folder)
    outlines.unlink()
    with pytest.raises(UserError, match=rf"not whole: .*/{SLIDE}/{SLIDE}_1\.xml is not in"):
        build(folder)
    outlines.write_text(content)
    outlines.with_suffix(".tif").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"_1\.tif cannot be decoded"):
        build(folder)
    (folder / PARTS["val"]).rename(folder / "elsewhere")
    with pytest.raises(UserError, match="not whole: MoNuSAC Testing Data and Annotations is not in"):
        build(folder)


def test_a_file_without_nuclei_is_all_background(folder):
    stem = folder / PARTS["train"] / SLIDE / f"{SLIDE}_1"
    write(stem, (60, 40), [], seed=0)
    assert xml([]) and not drawn(stem.with_suffix(".xml")).any()
