"""What `replay` says a step saw is what the trainer was given, byte for byte."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from pathssl import sources
from pathssl.cli import compose
from pathssl.data.loader import Loader
from pathssl.errors import UserError
from pathssl.records import read_coverage
from pathssl.replay import find_step, summary
from pathssl.replay_album import draw_step
from pathssl.run import Failed, run
from pathssl.training.trainer import Trainer


@pytest.fixture
def seen(monkeypatch) -> dict[int, np.ndarray]:
    """{step: the pixels that the trainer was given last for it}, filled by every run in this process."""
    steps: dict[int, np.ndarray] = {}
    batches = Loader.batches

    def recording(self, first, last):
        for batch in batches(self, first, last):
            steps[batch.step + 1] = np.array(batch.patches.pixels)
            yield batch

    monkeypatch.setattr(Loader, "batches", recording)
    return steps


@pytest.fixture
def finished(small, seen):
    assert not seen  # the recording of the fixture `seen` is on
    return run(compose([*small, "magnification=10x_20x"]), "default")


def test_a_step_s_patches_are_named_and_come_back_to_the_byte(finished, seen, caplog):
    assert sorted(seen) == list(range(1, 9))
    for step, pixels in seen.items():
        found = find_step(finished, step)
        assert found.trained and np.array_equal(found.pixels(), pixels)
        assert [row["patch"] for row in found.rows()] == list(range(8 * (step - 1), 8 * step))
    row = found.rows()[3]
    slide = found.data.index.open(found.data.index.paths.index(row["slide"]))
    assert np.array_equal(slide.read(row["x0"], row["y0"], row["mpp"], 40), seen[8][3])
    assert row["case"] in row["slide"] and row["mpp"] in (0.5, 1.0) and row["redraws"] == 0
    assert not caplog.records
    total = read_coverage(finished)["total"]
    assert (total["patches"], total["slides"]) == (64, len(np.unique(found.data.training_slides)))


def test_what_a_filter_turned_down_is_turned_down_again(small, seen):
    settings = ["patch_filter=hsv", "patch_filter.least=0.8", "magnification=continuous", "magnification.mpp=[0.5,1,2]"]
    finished = run(compose([*small, *settings, "magnification.weight=[1,2]", "data.weight_by=tissue"]), "default")
    turned_down = 0
    for step, pixels in seen.items():
        found = find_step(finished, step)
        assert np.array_equal(found.pixels(), pixels)
        turned_down += sum(row["redraws"] for row in found.rows())
    coverage = read_coverage(finished)
    assert turned_down == coverage["turned_down"] > 10
    assert [row["mpp"] for row in coverage["magnifications"]] == [[0.5, 1], [1, 2]]
    assert "turned down by patch_filter=hsv (at least 80%" in summary(find_step(finished, 1))


def test_a_step_as_pictures(finished, tmp_path):
    page = draw_step(find_step(finished, 2), tmp_path / "pictures", 5)
    names = {path.name for path in page.parent.iterdir()}
    assert {"index.html", "patches.csv", "patches_00.png", "views.png"} <= names
    assert any(name.startswith("slide_") for name in names)
    rows = list(csv.DictReader((page.parent / "patches.csv").open()))
    assert [int(row["patch"]) for row in rows] == list(range(8, 16))
    text = page.read_text()
    assert all(f'src="{name}"' in text for name in names if name.endswith(".png"))


@pytest.mark.parametrize(
    ("step", "places", "says"),
    [
        (0, [], "Step 0 is the network before training"),
        (9, [], "has the steps 1 to 8"),
        (-1, [], "has the steps 1 to 8"),
        (1, ["batch.size=4"], "only|but data.path, data.manifest, cache_dir"),
        (1, ["data.path=nowhere"], "nothing at data.path"),
    ],
)
def test_what_cannot_be_replayed_is_said(finished, step, places, says):
    with pytest.raises(UserError, match=says):
        find_step(finished, step, places)


def test_a_folder_that_is_no_run_is_said(tmp_path):
    with pytest.raises(UserError, match="There is no run in"):
        find_step(tmp_path, 1)


def test_other_slides_are_refused_and_moved_ones_are_taken(finished, cohort, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(cohort, moved)
    config = yaml.safe_load((finished / "config.yaml").read_text())
    config["data"]["path"], config["data"]["manifest"] = str(tmp_path / "gone"), str(tmp_path / "gone/manifest.csv")
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"gone.*add data\.path="):
        find_step(finished, 1)
    places = [f"data.path={moved}", f"data.manifest={moved / 'manifest.csv'}", f"cache_dir={tmp_path / 'cache'}"]
    assert len(find_step(finished, 1, places).rows()) == 8
    next((moved / "slides").glob("*.tif")).unlink()
    (moved / "manifest.csv").write_text("slide\n")
    with pytest.raises(UserError, match="The slides are not those of"):
        find_step(finished, 1, places)


def test_patches_that_this_version_would_not_draw_are_warned_of(finished, caplog):
    path = finished / "pictures" / "patches.png"
    Image.fromarray(255 - np.array(Image.open(path))).save(path)
    find_step(finished, 1)
    assert "do not trust the replay" in caplog.text


def test_relative_paths_start_where_the_run_was_started(small, cohort, tmp_path, monkeypatch):
    shutil.copytree(cohort, tmp_path / "start" / "cohort")
    monkeypatch.chdir(tmp_path / "start")
    kept = [o for o in small if not o.startswith(("cache_dir", "output_dir"))]
    settings = [
        "cache_dir=cache",
        "output_dir=outputs",
        "data.path=cohort",
        "data.manifest=cohort/manifest.csv",
        "task=[]",
    ]
    config = compose([*(o for o in kept if "task." not in o), *settings])
    folder = (tmp_path / "start" / run(config, "default")).absolute()
    monkeypatch.chdir(tmp_path)
    assert len(find_step(folder, 1).rows()) == 8
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("region", [pytest.param("single", marks=pytest.mark.slow), "four"])
def test_replaced_patches_come_back_too_before_and_after_a_resume(region, small, cohort, tmp_path, seen, monkeypatch):
    slides = tmp_path / "slides"
    shutil.copytree(cohort / "slides", slides)
    more = [f"data.path={slides}", "data.manifest=null", f"region={region}", "magnification=10x_20x"]
    config = compose([*small, *more])
    data = sources.Data(config)
    for k in data.training_slides[:2]:
        damage(slides / data.index.paths[k])
    take = Trainer._take

    def interrupted(self, batch, *more):
        if batch.step == 5:
            raise RuntimeError("the power failed")
        return take(self, batch, *more)

    with monkeypatch.context() as once:
        once.setattr(Trainer, "_take", interrupted)
        with pytest.raises(Failed):
            run(config, "default")
    before = dict(seen)
    folder = run(compose([*small, *more]), "default")
    lines = [json.loads(line) for line in (folder / "replaced.jsonl").read_text().splitlines()]
    assert lines and all(8 * (line["step"] - 1) <= line["patch"] < 8 * line["step"] for line in lines)
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert lines[0]["step"] <= 4 < lines[-1]["step"]
    for step in range(1, 9):
        found = find_step(folder, step)
        assert np.array_equal(found.pixels(), seen[step])
        assert step not in before or np.array_equal(before[step], seen[step])
        assert found.redraws.sum() == len(found.replaced) == sum(line["step"] == step for line in lines)
    coverage = read_coverage(folder)
    assert coverage["step"] == 8 and coverage["total"]["patches"] == 64
    assert sum(row["draws"] for row in coverage["replaced"]) == len(lines)


def damage(slide) -> None:
    """Overwrites the slide's middle with zeros; its size and time stay, so that the index takes it for the same."""
    times, content = os.stat(slide), bytearray(slide.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)
    slide.write_bytes(content)
    os.utime(slide, ns=(times.st_atime_ns, times.st_mtime_ns))
