"""The index: right contents, resumed, updated, shared, and never brought down by a bad slide."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from golden_slides import REAL, SETTINGS, build, tissue_pixels, write_pyramid

from pathssl.errors import UserError
from pathssl.slides import index as index_module
from pathssl.slides import survey as survey_module

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def surveyed(monkeypatch) -> list[str]:
    """The names of slides that were looked at, as they are."""
    names = []
    real = survey_module.survey
    monkeypatch.setattr(survey_module, "survey", lambda job: names.append(job.name) or real(job))
    return names


def test_the_index_says_what_the_slides_are_and_where_their_tissue_is(cohort, tmp_path):
    folder = cohort(2)
    (folder / "deeper").mkdir()
    (folder / "slide1.tif").rename(folder / "deeper" / "TCGA-cr-7395-01A-01-TS1.tif")
    index = build(folder, tmp_path / "cache")
    assert index.paths == ["deeper/TCGA-cr-7395-01A-01-TS1.tif", "slide0.tif"]
    assert (index.case, index.site) == (["TCGA-CR-7395", "slide0"], ["CR", "unknown"])
    assert (index.width.tolist(), index.height.tolist(), index.mpp.tolist()) == ([900, 900], [700, 700], [0.5, 0.5])
    assert (index.root, index.cell_um, index.quarantined) == (folder, 32.0, [])
    disc_mm2 = np.pi * (0.4 * 700 * 0.5 / 1000) ** 2
    np.testing.assert_allclose(index.tissue_mm2, disc_mm2, rtol=0.08)
    for k in range(2):
        tissue, cells = index.tissue(k), index.cells(k)
        assert (tissue.shape, tissue.dtype, cells.dtype) == ((11, 15), np.uint8, np.int32)
        np.testing.assert_array_equal(cells, np.flatnonzero(tissue >= 0.4 * 255))
    assert index.open(1).read(450, 350, 0.5, 32).mean() < 200


def test_an_index_is_used_again_and_only_what_changed_is_looked_at(cohort, tmp_path, surveyed):
    folder = cohort(3)
    first = build(folder, tmp_path / "cache")
    assert surveyed == first.paths
    surveyed.clear()
    build(folder, tmp_path / "cache")
    assert surveyed == []
    write_pyramid(folder / "new.tif", tissue_pixels(900, 700, seed=9), mpp=0.5)
    (folder / "slide0.tif").unlink()
    os.utime(folder / "slide2.tif", (1, 1))
    second = build(folder, tmp_path / "cache")
    assert (second.paths, surveyed) == (["new.tif", "slide1.tif", "slide2.tif"], ["new.tif", "slide2.tif"])
    for name in ("slide1.tif", "slide2.tif"):
        before, after = first.paths.index(name), second.paths.index(name)
        np.testing.assert_array_equal(first.tissue(before), second.tissue(after))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_settings_make_another_index(cohort, tmp_path):
    folder = cohort(1)
    fine, coarse = build(folder, tmp_path / "cache"), build(folder, tmp_path / "cache", cell_um=64.0)
    assert (fine.tissue(0).shape, coarse.tissue(0).shape) == ((11, 15), (6, 8))
    assert fine.folder != coarse.folder


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_slides_are_quarantined_by_name_with_their_reason(cohort, tmp_path, caplog, workers):
    folder = cohort(1)
    whole = (folder / "slide0.tif").read_bytes()
    (folder / "empty.tif").write_bytes(b"")
    (folder / "noise.svs").write_bytes(b"this is no slide")
    (folder / "cut.tif").write_bytes(whole[: len(whole) * 2 // 3])
    write_pyramid(folder / "glass.tif", np.full((600, 600, 3), 244, np.uint8), mpp=0.5)
    write_pyramid(folder / "no_mpp.tif", tissue_pixels(600, 600), mpp=None)
    with caplog.at_level(logging.WARNING):
        index = build(folder, tmp_path / "cache", workers=workers)
    assert index.paths == ["slide0.tif"]
    reasons = dict(index.quarantined)
    for name, part in {
        "empty.tif": "the file is empty",
        "noise.svs": "cannot be read",
        "cut.tif": "truncated",
        "glass.tif": "no tissue",
        "no_mpp.tif": "no mpp; give it in the manifest column mpp",
    }.items():
        assert part in reasons.pop(name)
        assert any(name in message and part in message for message in caplog.messages)
    assert not reasons


def test_a_damaged_last_tile_is_found(cohort, tmp_path):
    folder = cohort(2)
    data = bytearray((folder / "slide0.tif").read_bytes())
    last = data.rindex(b"\xff\xd8")
    data[last : last + 200] = bytes(200)
    (folder / "slide0.tif").write_bytes(data)
    index = build(folder, tmp_path / "cache")
    assert "damaged" in dict(index.quarantined)["slide0.tif"]


def test_a_manifest_gives_mpp_case_and_site(cohort, tmp_path, surveyed):
    folder = cohort(2)
    write_pyramid(folder / "no_mpp.tif", tissue_pixels(600, 600), mpp=None)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("slide,mpp,case,site\nno_mpp.tif,0.25,A,north\nslide0,,B,\n")
    index = build(folder, tmp_path / "cache", manifest)
    assert (index.paths, index.mpp.tolist()) == (["no_mpp.tif", "slide0.tif", "slide1.tif"], [0.25, 0.5, 0.5])
    assert (index.case, index.site) == (["A", "B", "slide1"], ["north", "unknown", "unknown"])
    assert index.open(0).mpp == 0.25
    surveyed.clear()
    manifest.write_text("slide,mpp,case,site\nno_mpp.tif,0.5,A,north\nslide0,,C,\n")
    index = build(folder, tmp_path / "cache", manifest)
    assert (surveyed, index.mpp[0], index.case[1]) == (["no_mpp.tif"], 0.5, "C")


def test_no_usable_slide_is_a_sentence_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "slides").mkdir()
    with pytest.raises(UserError, match=r"No slides found in .*slides.*\.svs .*\.dcm"):
        build(tmp_path / "slides", tmp_path / "new" / "cache")
    write_pyramid(tmp_path / "slides" / "a.tif", tissue_pixels(300, 300), mpp=None)
    (tmp_path / "slides" / "b.tif").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"(?s)None of 2 slides can be used.*a\.tif: it has no mpp.*b\.tif: the file is empty"
    ):
        build(tmp_path / "slides", tmp_path / "new" / "cache")
    with pytest.raises(UserError, match="min_tissue"):
        build(tmp_path / "slides", tmp_path / "new" / "cache", min_tissue=40)
    with pytest.raises(UserError, match="choose one of otsu, hsv"):
        build(tmp_path / "slides", tmp_path / "new" / "cache", method="unet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["slides"]


def test_a_killed_build_goes_on_where_it_stopped(cohort, tmp_path, surveyed):
    folder, cache = cohort(6), tmp_path / "cache"
    code = f"""
import time
from pathlib import Path
from pathssl.slides import survey
from pathssl.slides.index import build_index
real = survey.survey
survey.survey = lambda job: time.sleep(0.3) or real(job)
build_index({str(folder)!r}, cache=Path({str(cache)!r}), manifest=None, workers=0, progress=False, **{SETTINGS!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and process.poll() is None:
        progress = list(cache.glob("*.progress.jsonl"))
        if progress and progress[0].read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (progress,) = cache.glob("*.progress.jsonl")
    done = {json.loads(line)["path"] for line in progress.read_bytes().splitlines()[1:]}
    assert 2 <= len(done) < 6
    with open(progress, "ab") as file:
        file.write(b'{"path": "slide5.tif", "finger')  # the line that the kill cut short
    index = build(folder, cache)
    assert set(surveyed) == {f"slide{k}.tif" for k in range(6)} - done
    assert len(index) == 6
    assert [file.name for file in cache.iterdir()] == [index.folder.name]
    fresh = build(folder, tmp_path / "other")
    for k in range(6):
        np.testing.assert_array_equal(index.tissue(k), fresh.tissue(k))


@pytest.mark.slow
def test_a_decoder_that_kills_or_hangs_its_process_costs_one_slide(cohort, tmp_path, monkeypatch):
    folder = cohort(4)
    monkeypatch.setattr(survey_module, "LIMIT_S", 6.0)
    (tmp_path / "bad_decoder.py").write_text(
        "import os, time\n"
        "from pathssl.slides import survey\n"
        "real = survey.survey\n"
        "def bad(job):\n"
        "    if 'slide1' in job.name: os.kill(os.getpid(), 11)\n"
        "    if 'slide2' in job.name: time.sleep(60)\n"
        "    return real(job)\n"
        "def work(connection):\n"
        "    survey.survey = bad\n"
        "    survey.work(connection)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(survey_module, "WORK", "bad_decoder:work")
    index = build(folder, tmp_path / "cache", workers=2)
    assert index.paths == ["slide0.tif", "slide3.tif"]
    reasons = dict(index.quarantined)
    assert "signal 11" in reasons["slide1.tif"]
    assert "more than 6 s" in reasons["slide2.tif"]


def test_a_fault_that_may_pass_is_tried_again_next_time(cohort, tmp_path, monkeypatch):
    folder = cohort(2)
    real = survey_module.open_slide

    def unreachable(path, mpp, reader):
        if path.name == "slide1.tif":
            raise OSError(5, "Input/output error")
        return real(path, mpp, reader)

    monkeypatch.setattr(survey_module, "open_slide", unreachable)
    assert "Input/output error" in dict(build(folder, tmp_path / "cache").quarantined)["slide1.tif"]
    monkeypatch.setattr(survey_module, "open_slide", real)
    assert build(folder, tmp_path / "cache").paths == ["slide0.tif", "slide1.tif"]


@pytest.mark.slow
def test_two_processes_that_ask_for_one_index_build_it_once(cohort, tmp_path):
    folder, cache = cohort(3), tmp_path / "cache"
    code = f"""
import time
from pathlib import Path
from pathssl.slides import survey
from pathssl.slides.index import build_index
real, looked = survey.survey, []
survey.survey = lambda job: time.sleep(0.3) or looked.append(job.name) or real(job)
cache = Path({str(cache)!r})
index = build_index({str(folder)!r}, cache=cache, manifest=None, workers=0, progress=False, **{SETTINGS!r})
print(len(index), len(looked))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = sorted(process.communicate(timeout=60)[0].split() for process in processes)
    assert answers == [["3", "0"], ["3", "3"]]


def test_a_slide_gone_while_the_index_is_built_is_no_traceback(cohort, tmp_path, monkeypatch):
    folder = cohort(2)
    real = index_module.list_slides

    def listed_then_removed(*asked, **more):
        found = real(*asked, **more)
        (folder / "slide0.tif").unlink()
        return found

    monkeypatch.setattr(index_module, "list_slides", listed_then_removed)
    index = build(folder, tmp_path / "cache")
    assert (index.paths, [name for name, _ in index.quarantined]) == (["slide1.tif"], ["slide0.tif"])


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data/slides")
def test_real_slides_without_mpp_are_quarantined_until_the_manifest_gives_it(tmp_path):
    index = build(REAL, tmp_path / "cache")
    assert [name for name, _ in index.quarantined] == ["tcga-cr-7395-01a-01-ts1.svs"]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("slide,mpp\ntcga-cr-7395-01a-01-ts1.svs,0.5\n")
    index = build(REAL, tmp_path / "cache", manifest)
    assert not index.quarantined
    assert index.case[index.paths.index("tcga-cr-7395-01a-01-ts1.svs")] == "TCGA-CR-7395"


def test_without_a_bar_the_log_says_how_long_it_will_take(cohort, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(index_module, "_SAY_EVERY_S", 0.0)
    with caplog.at_level("INFO"):
        build(cohort(3), tmp_path / "cache")
    said = [record.message for record in caplog.records if record.message.startswith("index: ")]
    assert ["1/3 [" in said[0], "2/3 [" in said[1], "3/3 [" in said[2]] == [True] * 3
    assert all("<" in line and "slide" in line for line in said)  # [elapsed<remaining, slides a second]


def test_another_threshold_of_tissue_takes_the_findings_over(cohort, tmp_path, monkeypatch):
    folder = cohort(3)
    plain = build(folder, tmp_path / "plain", min_tissue=0.9)
    write_pyramid(folder / "pale.tif", np.full((600, 600, 3), 244, np.uint8), mpp=0.5)
    first = build(folder, tmp_path / "cache", min_tissue=0.2)
    assert [name for name, _ in first.quarantined] == ["pale.tif"]
    looked_at = []
    real = index_module.survey_all
    monkeypatch.setattr(
        index_module, "survey_all", lambda jobs, n: looked_at.extend(job.name for job in jobs) or real(jobs, n)
    )
    strict = build(folder, tmp_path / "cache", min_tissue=0.9)
    assert looked_at == ["pale.tif"] and strict.folder != first.folder
    for k in range(3):
        np.testing.assert_array_equal(strict.cells(k), plain.cells(k))
        assert len(strict.cells(k)) < len(first.cells(k))
    bare = folder / "bare.tif"
    pixels = np.full((600, 600, 3), 244, np.uint8)
    pixels[300:330, 300:330] = (170, 90, 160)
    write_pyramid(bare, pixels, mpp=0.5)
    assert "bare.tif" in build(folder, tmp_path / "cache", min_tissue=0.05).paths
    assert "no 32 um cell has 100%" in dict(build(folder, tmp_path / "cache", min_tissue=1.0).quarantined)["bare.tif"]


def test_without_a_rescan_a_manifest_counts_by_its_content(cohort, tmp_path, surveyed):
    """Copies keep old times; and what says the same of the slides is asked about once."""
    folder, manifest = cohort(2), tmp_path / "m.csv"

    def held_out() -> list[str]:
        return build(folder, tmp_path / "cache", manifest, rescan=False).split

    manifest.write_text("slide,split\nslide0,train\n")
    assert held_out() == ["train", ""]
    manifest.write_text("slide,split\nslide0,held_out\n")
    os.utime(manifest, (1, 1))
    assert held_out() == ["held_out", ""]
    manifest.write_text("slide,split,note\nslide0,held_out,nothing\n")
    assert held_out() == ["held_out", ""]
    shutil.move(folder, tmp_path / "away")
    folder.mkdir()
    assert held_out() == ["held_out", ""] and len(surveyed) == 2
    manifest.unlink()
    for rescan in (False, True):
        with pytest.raises(UserError, match=r"There is no manifest .*m\.csv"):
            build(folder, tmp_path / "cache", manifest, rescan=rescan)
