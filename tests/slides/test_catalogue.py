"""Slides by folder, file and glob, and manifests whose mistakes are named."""

import pyarrow
import pyarrow.parquet
import pytest

from pathssl.errors import UserError
from pathssl.slides.catalogue import list_slides


@pytest.fixture
def folder(tmp_path):
    for name in ("b.svs", "a.TIF", "deep/er/c.ndpi", "deep/notes.txt", ".hidden.svs", "deep/b.tif"):
        (tmp_path / "slides" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "slides" / name).touch()
    return tmp_path / "slides"


def paths(path, manifest=None) -> list[str]:
    return [entry.path for entry in list_slides(path, manifest)[1]]


def test_a_folder_is_searched_with_its_subfolders(folder):
    assert paths(folder) == ["a.TIF", "b.svs", "deep/b.tif", "deep/er/c.ndpi"]
    assert list_slides(folder, None)[0] == folder


def test_a_file_and_a_glob_name_slides_relative_to_their_fixed_part(folder):
    assert list_slides(folder / "b.svs", None)[0] == folder
    assert paths(folder / "b.svs") == ["b.svs"]
    assert list_slides(f"{folder}/**/*.tif", None)[0] == folder
    assert paths(f"{folder}/**/*.tif") == ["deep/b.tif"]
    assert paths(f"{folder}/deep/*.tif") == ["b.tif"]


@pytest.mark.parametrize("path", ["nowhere", "nowhere/*.svs", "slides/deep/*.txt"])
def test_where_nothing_is_found_the_path_is_named(folder, path):
    with pytest.raises(UserError, match=path.replace("*", r"\*")):
        list_slides(folder.parent / path, None)


def test_manifests_are_csv_or_parquet_and_name_slides_by_path_name_or_stem(folder, tmp_path):
    (tmp_path / "m.csv").write_text("slide,mpp,case,other\ndeep/b.tif,0.25,X,1\nc,,Y,2\na.TIF,0.5,,3\n")
    rows = {"slide": ["deep/b.tif", "c", "a.TIF"], "mpp": [0.25, None, 0.5], "case": ["X", "Y", None]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "m.parquet")
    for manifest in (tmp_path / "m.csv", tmp_path / "m.parquet"):
        found = {entry.path: (entry.mpp, entry.case) for entry in list_slides(folder, manifest)[1]}
        expected = {"a.TIF": (0.5, "a"), "b.svs": (None, "b"), "deep/b.tif": (0.25, "X"), "deep/er/c.ndpi": (None, "Y")}
        assert found == expected


def test_a_manifest_gives_split_and_weight_and_takes_out_what_is_to_be_ignored_and_nothing_else(folder, tmp_path):
    (tmp_path / "m.csv").write_text("slide,split,weight\nb.svs,held_out,\na.TIF,train,0.5\nc,ignore,\n")
    found = {entry.path: (entry.split, entry.weight) for entry in list_slides(folder, tmp_path / "m.csv")[1]}
    assert found == {"a.TIF": ("train", 0.5), "b.svs": ("held_out", 1.0), "deep/b.tif": ("", 1.0)}
    rows = {"slide": ["b.svs", "a.TIF"], "split": [None, "train"], "weight": [0.0, None]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "m.parquet")
    found = {entry.path: (entry.split, entry.weight) for entry in list_slides(folder, tmp_path / "m.parquet")[1]}
    assert found["b.svs"] == ("", 0.0) and found["a.TIF"] == ("train", 1.0) and len(found) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("slide,mpp\nz.svs,1\n", "'z.svs'.* is not among the slides"),
        (
            "slide\nz.svs\nb.svs\ny.svs\n",
            r"2 slides of the manifest .* are not among the 4 that are there: z\.svs, y\.svs\. Take",
        ),
        (
            "slide\n" + "".join(f"z{k}.svs\n" for k in range(7)),
            r"^7 slides .*: z0\.svs, z1\.svs, z2\.svs, z3\.svs, z4\.svs and 2 more\. .*for example a\.TIF\.$",
        ),
        ("slide,mpp\nb,1\n", "'b'.* could be any of b.svs, deep/b.tif"),
        ("slide,mpp\nb.svs,1\nb.svs,2\n", "'b.svs'.* is there twice"),
        ("slide,mpp\nb.svs,fine\n", "b.svs the mpp 'fine'"),
        ("slide,mpp\nb.svs,-1\n", "b.svs the mpp '-1'"),
        ("slide,weight\nb.svs,-1\n", "b.svs the weight '-1'.*0 or more"),
        ("slide,split\nb.svs,test\n", "b.svs the split 'test': it must be train, held_out"),
        ("slide,split\nb.svs,ignore\na.TIF,ignore\nc,ignore\ndeep/b.tif,ignore\n", "says to ignore every slide"),
        ("name,mpp\nb.svs,1\n", "has the columns name, mpp: it needs the column slide"),
    ],
)
def test_mistakes_in_a_manifest_are_named(folder, tmp_path, content, said):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(UserError, match=said):
        list_slides(folder, tmp_path / "m.csv")


def test_a_manifest_that_is_not_there_is_named(folder):
    with pytest.raises(UserError, match=r"no manifest .*missing\.csv"):
        list_slides(folder, folder / "missing.csv")


@pytest.mark.parametrize(
    ("name", "case", "site"),
    [
        ("TCGA-A1-A0SB-01Z-00-DX1.B34C267B-CAAA-4AB6-AD5C-276C26F997A1.svs", "TCGA-A1-A0SB", "A1"),
        ("tcga-cr-7395-01a-01-ts1.svs", "TCGA-CR-7395", "CR"),
        ("TCGA-notes.svs", "TCGA-notes", "unknown"),
        ("case 7.svs", "case 7", "unknown"),
    ],
)
def test_tcga_barcodes_name_case_and_site(tmp_path, name, case, site):
    (tmp_path / name).touch()
    (entry,) = list_slides(tmp_path, None)[1]
    assert (entry.case, entry.site) == (case, site)
