"""Cases and slides are found however a labelled set writes their names, and other words are not taken for them."""

import pandas as pd
import pytest
from PIL import Image

from pathssl.leakage.names import Names, barcode
from pathssl.leakage.overlaps import of_names
from pathssl.probes.task import Task

CASES = ["patient123", "Case_01", "TCGA-AA-1234"]
DX2 = "coad/TCGA-AA-1234-01Z-00-DX2.A12BC0DE-0000-4000-8000-0123456789AB.svs"
SLIDES = ["x/patient123_HE.svs", "x/slide77.svs", DX2, "s/a3.svs"]


def overlaps(
    tmp_path, path="image.png", group="g", slide="", *, cases=CASES, slides=SLIDES, classes=("normal", "tumor")
):
    """{kind: name} of a set of two images, of which the second is called so."""
    rows = [("other.png", classes[0], "train", "h", ""), (path, classes[1], "train", group, slide)]
    rows += [(f"{name}_val.png", name, "val", f"v{name}", "") for name in classes]
    for name, *_ in rows:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    table = pd.DataFrame(rows, columns=["path", "label", "split", "group", "slide"])
    task = Task(table, folder=tmp_path, source="labels.csv", image_px=8, val_fraction=0.2, threads=1, cache_mib=1)
    found = of_names("folder", task, cases, slides)
    assert all(one.images == [path] for one in found)
    return {one.kind: one.name for one in found}


@pytest.mark.parametrize(
    "path",
    ["patient123.png", "TUM/TUM_patient123_0001.png", "TUM-patient123-2.png", "Patient123/4.png", "a.patient123.b.png"],
)
def test_a_case_is_found_wherever_a_path_names_it(path, tmp_path):
    assert overlaps(tmp_path, path) == {"case": "patient123"}


@pytest.mark.parametrize(
    "group", ["patient123", "patient123_block2", "patient123-1", "block2 of Patient123", "case-01 "]
)
def test_a_case_is_found_wherever_a_group_names_it(group, tmp_path):
    assert overlaps(tmp_path, group=group)["case"] in ("patient123", "Case_01")


@pytest.mark.parametrize(
    "path", ["patient1234.png", "patient12_3.png", "mypatient123.png", "case_011_tile4.png", "TCGA-AB-1234_1.png"]
)
def test_a_name_that_only_begins_or_ends_like_it_is_another(path, tmp_path):
    assert overlaps(tmp_path, path) == {}


@pytest.mark.parametrize("name", ["TCGA-AA-1234", "tcga_aa_1234", "TCGA.AA.1234", "cut-TCGA-AA-1234-01Z-00-DX9_7"])
def test_a_barcode_is_found_whatever_stands_between_its_words(name, tmp_path):
    assert overlaps(tmp_path, f"{name}.png") == {"case": "TCGA-AA-1234"}  # and DX9 is no slide that is trained on


def test_a_patient_of_tcga_is_found_by_the_slides_though_the_manifest_calls_the_case_otherwise(tmp_path):
    assert overlaps(tmp_path, group="TCGA-AA-1234-01Z-00-DX9", cases=["P17"]) == {"case": "TCGA-AA-1234"}


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ({"slide": "patient123_HE.svs"}, "x/patient123_HE.svs"),
        ({"slide": "y/patient123_HE"}, "x/patient123_HE.svs"),
        ({"group": "slide77.svs"}, "x/slide77.svs"),
        ({"group": "a3"}, "s/a3.svs"),
        ({"slide": "a3.svs"}, "s/a3.svs"),
        ({"path": "tumor/slide77_0001.png"}, "x/slide77.svs"),
        ({"path": "TCGA-AA-1234-01Z-00-DX2_0001.png"}, DX2),
        ({"slide": DX2.rpartition("/")[2]}, DX2),
    ],
)
def test_a_slide_is_found_with_and_without_folder_and_suffix(where, name, tmp_path):
    assert overlaps(tmp_path, **where)["slide"] == name


def test_a_case_is_found_where_the_slide_column_names_it(tmp_path):
    assert overlaps(tmp_path, slide="patient123_FF.svs") == {"case": "patient123"}


def test_a_folder_of_a_class_is_no_case_and_no_slide(tmp_path):
    assert overlaps(tmp_path, "normal/tumor_4.png", cases=["tumor"], slides=["normal.svs"]) == {}
    assert overlaps(tmp_path, "tumor/tumor_001_4.png", cases=["tumor_001"], slides=[]) == {"case": "tumor_001"}


def test_short_names_and_places_in_slides_are_not_taken_for_names(tmp_path):
    assert overlaps(tmp_path, "a3/1_3_x.png", cases=["1", "3", "a3"], slides=[]) == {}
    assert overlaps(tmp_path, "tile_12345_20480.png", cases=["12345"], slides=[]) == {}
    assert overlaps(tmp_path, "12345_20480.png", cases=["12345"], slides=[]) == {"case": "12345"}


def test_the_longest_name_is_told():
    names = Names([("slide7", "slide7.svs"), ("slide7_HE", "slide7_HE.svs")], classes=[])
    assert names.find(path="a_slide7_HE_3.png", fields=["slide7_4"]) == "slide7_HE.svs"
    assert names.find(path="a_slide7_HE_3.png", fields=["slide7"]) == "slide7.svs"


def test_no_part_of_a_longer_word_is_a_barcode():
    assert barcode("x/TCGA-AB-12CD-01Z-00-DX1.svs") == "TCGA-AB-12CD"
    assert barcode("TCGA-AB-12C") is None and barcode("xTCGA-AB-12CD") is None and barcode("TCGA-AB-12CDE") is None
