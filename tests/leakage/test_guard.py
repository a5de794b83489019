"""Planted overlaps (case, slide, patch) are found, refused or labelled; disjoint sets raise no alarm."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from programs import pathssl, train

from pathssl import sources
from pathssl.cli import compose
from pathssl.records import find_runs, read_leaks
from pathssl.report.write import write_report


def table(folder, rows):
    lines = ["path,label,split,group_id,slide", *(",".join(row) for row in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def labelled(cohort, tmp_path):
    """A folder of six images, two classes, that overlaps with nothing; `rows` of its table."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    rows = []
    for k, file in enumerate(sorted((cohort / "labelled").rglob("*.png"))[::15][:6]):
        shutil.copy(file, folder / f"image{k}.png")
        rows.append([f"image{k}.png", "ab"[k % 2], ("train", "val", "test")[k // 2], f"patient{k}", ""])
    table(folder, rows)
    return folder, rows


def line(small, folder):
    own = [o for o in small if not o.startswith("task.synthetic")]
    return [*own, "task=[folder]", f"task.folder.path={folder}", "task.folder.image_px=64", "leakage.patches=24"]


def look(small, folder):
    config = compose(line(small, folder))
    return sources.leakage(config, lambda: sources.Data(config), sources.tasks(config))


def data_of(small):
    return sources.Data(compose(small))


def test_disjoint_sets_raise_no_alarm(small, labelled):
    found = look(small, labelled[0])
    assert found.overlaps == [] and found.compared["pictures"] == 24 and found.compared["images"] == {"folder": 6}


@pytest.mark.slow
def test_the_synthetic_cohort_holds_its_own_tasks_out(small):
    tasks = ["task=[synthetic,synthetic_nuclei,synthetic_cases]", "task.synthetic_cases.tumour_patches=1"]
    cohorts = [
        o.replace("task.synthetic.", f"task.{name}.")
        for name in ("synthetic_nuclei", "synthetic_cases")
        for o in small
        if o.startswith("task.synthetic.")
    ]
    config = compose([*small, *cohorts, *tasks, "task.synthetic_cases.slides_per_case=2", "leakage.patches=64"])
    assert sources.leakage(config, lambda: sources.Data(config), sources.tasks(config)).overlaps == []


@pytest.mark.parametrize("how", ["group", "path"])
def test_the_same_case_is_found(how, small, labelled):
    folder, rows = labelled
    case = data_of(small).index.case[int(data_of(small).training_slides[0])]
    if how == "group":
        rows[4][3] = case
    else:
        (folder / case).mkdir()
        shutil.move(folder / "image4.png", folder / case / "image4.png")
        rows[4][0] = f"{case}/image4.png"
    table(folder, rows)
    (one,) = [one for one in look(small, folder).overlaps if one.kind != "slide"]  # whose names begin with their case's
    assert (one.kind, one.name, one.images) == ("case", case, [rows[4][0]])


def test_the_same_slide_is_found(small, labelled):
    folder, rows = labelled
    data = data_of(small)
    slide = data.index.paths[int(data.training_slides[0])]
    rows[5][4] = slide
    table(folder, rows)
    kinds = {one.kind: one.name for one in look(small, folder).overlaps}
    assert kinds["slide"] == slide


def plant_patch(small, folder, rows) -> str:
    """The third patch of the run stands among the images, flipped and at JPEG 60."""
    config = compose(line(small, folder))
    patch = sources.Data(config).reader(config["seed"]).read(np.arange(3)).pixels[2]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(patch[:, ::-1])).save(file, "JPEG", quality=60)
    (folder / "planted.jpg").write_bytes(file.getvalue())
    rows.append(["planted.jpg", "a", "test", "someone", ""])
    table(folder, rows)
    return "planted.jpg"


def test_the_same_patch_encoded_again_and_flipped_is_found(small, labelled):
    planted = plant_patch(small, *labelled)
    (one,) = look(small, labelled[0]).overlaps
    assert one.kind == "patch" and one.images == [planted] and " um/px)" in one.name


def test_a_copy_in_another_split_is_told_and_no_leak_of_training(small, labelled):
    folder, rows = labelled
    shutil.copy(folder / "image0.png", folder / "again.png")
    rows.append(["again.png", "a", "test", "someone", ""])
    table(folder, rows)
    found = look(small, folder)
    (one,) = found.overlaps
    assert (one.kind, one.name, one.images) == ("split", "test again.png", ["image0.png"])
    assert found.of_training() == []


@pytest.mark.slow
def test_refused_before_anything_is_written_and_labelled_where_that_is_wanted(small, labelled, tmp_path):
    planted = plant_patch(small, *labelled)
    command = line(small, labelled[0])
    done = train(*command, cwd=tmp_path)
    assert done.returncode == 2 and planted in done.stderr and "leakage.on_overlap=label" in done.stderr
    assert not find_runs(tmp_path / "outputs" / "small")
    done = train(*command, "leakage.on_overlap=label", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "small")
    assert [one["images"] for one in read_leaks(run)["folder"]] == [[planted]]
    page = write_report(tmp_path / "outputs" / "small").read_text()
    assert (
        "Task folder is tested on what was trained on: 1 image" in page
        and '<span class="tag">tested on what was trained on' in page
    )
    arms = (tmp_path / "outputs" / "small" / "report" / "arms.csv").read_text()
    assert "tested_on_training" in arms.splitlines()[0]


@pytest.mark.slow
def test_as_it_is_typed(small, labelled, tmp_path):
    done = pathssl("leakage", *line(small, labelled[0]), cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.rstrip().endswith("no overlap."), done.stdout + done.stderr
    plant_patch(small, *labelled)
    done = pathssl("leakage", *line(small, labelled[0]), "--json", cwd=tmp_path)
    assert done.returncode == 1 and [one["kind"] for one in json.loads(done.stdout)["overlaps"]] == ["patch"]
    done = pathssl("leakage", "task=[]", cwd=tmp_path)
    assert done.returncode == 2 and "Which tasks?" in done.stderr
    done = pathssl("leakage", *small, "leakage.on_overlap=perhaps", cwd=tmp_path)
    assert done.returncode == 2 and "refuse, label, ignore" in done.stderr
