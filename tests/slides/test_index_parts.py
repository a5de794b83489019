"""An index that several jobs make together, a part of the slides each."""

import numpy as np
import pytest
from golden_slides import SETTINGS, build
from programs import pathssl

from pathssl.slides import index as index_module
from pathssl.slides.index import survey_part


def survey(folder, cache, number, count):
    return survey_part(folder, part=(number, count), cache=cache, manifest=None, workers=0, progress=False, **SETTINGS)


def test_parts_look_at_every_slide_once_and_the_index_is_that_of_one_job(cohort, tmp_path, monkeypatch):
    folder = cohort(5)
    (folder / "empty.tif").write_bytes(b"")
    alone = build(folder, tmp_path / "alone")
    seen = []
    real = index_module.survey_all
    monkeypatch.setattr(
        index_module, "survey_all", lambda jobs, workers: seen.extend(j.name for j in jobs) or real(jobs, workers)
    )
    counts = [survey(folder, tmp_path / "cache", number, 3) for number in (3, 1, 2)]
    assert [count for count, _ in counts] == [2, 2, 2]
    assert [bad for _, bad in counts].count([("empty.tif", "the file is empty")]) == 1
    assert sorted(seen) == ["empty.tif", *alone.paths]
    assert survey(folder, tmp_path / "cache", 2, 3)[0] == 2 and len(seen) == 6  # a part that was killed goes on
    together = build(folder, tmp_path / "cache")
    assert len(seen) == 6 and (together.paths, together.quarantined) == (alone.paths, alone.quarantined)
    for k in range(5):
        np.testing.assert_array_equal(together.tissue(k), alone.tissue(k))
    assert len(list((tmp_path / "cache").iterdir())) == 1  # no part is left


def test_what_no_part_looked_at_or_what_changed_since_is_looked_at_in_the_end(cohort, tmp_path, monkeypatch):
    folder = cohort(4)
    survey(folder, tmp_path / "cache", 1, 2)
    (folder / "slide0.tif").touch()
    seen = []
    real = index_module.survey_all
    monkeypatch.setattr(
        index_module, "survey_all", lambda jobs, workers: seen.extend(j.name for j in jobs) or real(jobs, workers)
    )
    assert build(folder, tmp_path / "cache").paths == [f"slide{k}.tif" for k in range(4)]
    assert seen == ["slide0.tif", "slide1.tif", "slide3.tif"]


def test_a_part_of_an_index_that_is_there_leaves_nothing(cohort, tmp_path):
    folder = cohort(2)
    build(folder, tmp_path / "cache")
    before = sorted((tmp_path / "cache").iterdir())
    assert survey(folder, tmp_path / "cache", 1, 2) == (1, [])
    assert sorted((tmp_path / "cache").iterdir()) == before


@pytest.mark.slow
def test_parts_as_they_are_typed(cohort, tmp_path):
    folder = cohort(3)
    data = ["data=folder", f"data.path={folder}", "data.foreground.cell_um=32"]
    for number in (1, 2):
        done = pathssl("index", *data, "--part", f"{number}/2", cwd=tmp_path)
        assert done.returncode == 0 and f"part {number}/2: {3 - number} slide" in done.stdout, done.stderr
    done = pathssl("index", *data, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("3 slides of 3 cases")


@pytest.mark.parametrize("part", ["3/2", "0/2", "a/2", "2"])
def test_parts_that_are_none_are_refused(part, tmp_path):
    done = pathssl("index", "data=synthetic", "--part", part, cwd=tmp_path)
    assert done.returncode == 2 and "give K/N" in done.stderr
