"""GDC's layout, and what barcodes say."""

import os

import pytest
from golden_slides import build, tissue_pixels, write_pyramid

from pathssl.errors import UserError
from pathssl.slides.catalogue import list_slides
from pathssl.slides.index import SlideIndex
from pathssl.slides.tcga import barcode, chosen

UUID = ".B34C267B-CAAA-4AB6-AD5C-276C26F997A1"


@pytest.mark.parametrize("tail", ["", f"{UUID}.svs", ".svs", f"{UUID.lower()}.svs"])
@pytest.mark.parametrize(
    ("name", "case", "site", "kind"),
    [
        ("TCGA-CR-7395-01A-01-TS1", "TCGA-CR-7395", "CR", "frozen"),
        ("tcga-cr-7395-01a-01-ts1", "TCGA-CR-7395", "CR", "frozen"),
        ("TCGA-A2-A0CM-01Z-00-DX1", "TCGA-A2-A0CM", "A2", "ffpe"),
        ("TCGA-A1-A0SB-01Z-00-DX1", "TCGA-A1-A0SB", "A1", "ffpe"),
        ("TCGA-06-0137-01A-03-BS3", "TCGA-06-0137", "06", "frozen"),
        ("TCGA-BH-A0B1-11A-03-TSC", "TCGA-BH-A0B1", "BH", "frozen"),
        ("TCGA-E2-A14V-01A-02-BSB", "TCGA-E2-A14V", "E2", "frozen"),
        ("TCGA-50-5931-01A-01-MS1", "TCGA-50-5931", "50", "frozen"),
        ("TCGA-HT-7483-01Z-00-DXA", "TCGA-HT-7483", "HT", "ffpe"),
        ("TCGA-3C-AALI-01Z-00-DX10", "TCGA-3C-AALI", "3C", "ffpe"),
        # Sites whose codes look like kinds of slides.
        ("TCGA-DX-A1KU-01A-01-TSA", "TCGA-DX-A1KU", "DX", "frozen"),
        ("TCGA-TS-A7P0-01Z-00-DX1", "TCGA-TS-A7P0", "TS", "ffpe"),
        ("TCGA-MS-A51U-01Z-00-DX2", "TCGA-MS-A51U", "MS", "ffpe"),
    ],
)
def test_a_barcode_names_case_site_and_kind(name, case, site, kind, tail):
    found = barcode(name + tail)
    assert (found.case, found.site, found.kind, found.slide) == (case, site, kind, name.upper())


def test_what_is_half_a_barcode_or_none_is_not_taken_for_more():
    assert barcode("TCGA-A2-A0CM.svs").kind is None and barcode("TCGA-A2-A0CM-DX1.svs").kind is None
    assert barcode("TCGA-A2-A0CM-01Z-00-DXTRA.svs").kind is None
    assert barcode("TCGA-notes.svs") is None and barcode("GTEX-1117F-0126.svs") is None


@pytest.fixture
def gdc(tmp_path):
    """What gdc-client leaves behind, with empty files for slides: two FFPE ones, two frozen ones, one twice, one half."""
    names = {
        "0a01": f"TCGA-A2-A0CM-01Z-00-DX1{UUID}.svs",
        "0a02": f"TCGA-A2-A0CM-01A-01-TS1{UUID}.svs",
        "0a03": f"TCGA-CR-7395-01A-01-BS1{UUID}.svs",
        "0a04": f"TCGA-DX-A1KU-01Z-00-DX2{UUID}.svs",
        "0a05": "TCGA-A2-A0CM-01Z-00-DX1.00000000-0000-4000-8000-000000000000.svs",
        "0a06": f"TCGA-HT-7483-01Z-00-DX1{UUID}.svs.partial",
    }
    for folder, name in names.items():
        (tmp_path / "gdc" / folder / "logs").mkdir(parents=True)
        for file in (name, f"logs/{name}.parcel", "annotations.txt"):
            (tmp_path / "gdc" / folder / file).touch()
    (tmp_path / "gdc" / "gdc_manifest.txt").touch()
    return tmp_path / "gdc", names


@pytest.mark.parametrize(
    ("kind", "folders"),
    [("ffpe", ["0a01", "0a04"]), ("frozen", ["0a02", "0a03"]), ("all", ["0a01", "0a02", "0a03", "0a04"])],
)
def test_gdc_s_layout_is_read_by_kind_each_slide_once_and_no_half_ones(gdc, kind, folders, caplog):
    root, names = gdc
    _, entries = list_slides(root, None, tcga=kind)
    assert [entry.path for entry in entries] == [f"{folder}/{names[folder]}" for folder in folders]
    cases = {"0a01": "TCGA-A2-A0CM", "0a02": "TCGA-A2-A0CM", "0a03": "TCGA-CR-7395", "0a04": "TCGA-DX-A1KU"}
    assert [(e.case, e.site) for e in entries] == [(cases[f], cases[f][5:7]) for f in folders]
    if kind != "frozen":
        assert f"there twice, by barcode, and are left out: 0a05/{names['0a05']}" in caplog.text


def test_without_tcga_s_rules_all_files_are_slides(gdc):
    assert len(list_slides(gdc[0], None)[1]) == 5


def test_where_no_slide_is_of_the_kind_the_choices_are_said():
    with pytest.raises(UserError, match=r"None of 1 slides is ffpe.*data\.tcga\.kind"):
        chosen(["a/TCGA-CR-7395-01A-01-BS1.svs"], "ffpe")
    with pytest.raises(UserError, match=r"data\.tcga\.kind=DX is not one of ffpe, frozen, all"):
        chosen([], "DX")
    assert chosen(["b/other.svs", "a/other2.svs"], "all") == ["a/other2.svs", "b/other.svs"]


def test_an_index_that_is_not_rescanned_touches_no_slide_but_knows_a_manifest_that_changed(
    tmp_path, monkeypatch, caplog
):
    for folder, k in (("x", 1), ("y", 2)):
        (tmp_path / "gdc" / folder).mkdir(parents=True)
        name = f"TCGA-A2-A0C{k}-01Z-00-DX1{UUID}.tif"
        write_pyramid(tmp_path / "gdc" / folder / name, tissue_pixels(900, 700, seed=k), mpp=0.5, compression="jpeg")
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"slide,weight\n{name},2\n")
    first = build(tmp_path / "gdc", tmp_path / "cache", manifest, tcga="ffpe")
    assert first.case == ["TCGA-A2-A0C1", "TCGA-A2-A0C2"] and first.weight.tolist() == [1, 2]
    (tmp_path / "gdc" / "y" / name).unlink()
    with monkeypatch.context() as patched, caplog.at_level("INFO"):
        patched.setattr("pathssl.slides.index.list_slides", lambda *_: pytest.fail("the folder was listed"))
        again = build(tmp_path / "gdc", tmp_path / "cache", manifest, tcga="ffpe", rescan=False)
    assert isinstance(again, SlideIndex) and again.paths == first.paths
    assert "`python -m pathssl index` looks for new, changed and lost ones" in caplog.text
    manifest.write_text("slide,weight\n")
    later = os.stat(tmp_path / "cache").st_mtime_ns + 10**10
    os.utime(manifest, ns=(later, later))
    assert len(build(tmp_path / "gdc", tmp_path / "cache", manifest, tcga="ffpe", rescan=False)) == 1
    assert len(build(tmp_path / "gdc", tmp_path / "cache", manifest, tcga="ffpe")) == 1
