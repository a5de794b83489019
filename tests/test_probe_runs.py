"""`python -m pathssl probe`: what the loop would have said, whoever asks, in however many shares."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from programs import pathssl, train
from safetensors.torch import save_file

from pathssl import sources
from pathssl.cli import compose, main
from pathssl.metric_keys import NULLS
from pathssl.probe_records import read_predictions, read_probes, read_rows
from pathssl.probe_runs import probe_weights, share_of
from pathssl.records import find_runs, read_json, read_leaks
from pathssl.replay import config_of

STEPS = (0, 4, 8)


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """A finished run, never to be changed, and its overrides."""
    from conftest import small

    folder = tmp_path_factory.mktemp("trained")
    line = small.__wrapped__(cohort, folder)
    done = train(*line, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return line, folder


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained[1], tmp_path / "here")
    (run,) = find_runs(tmp_path / "here" / "outputs" / "small")
    return run


def answer(capsys, *arguments) -> dict:
    assert main(["probe", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in (run / "probes").rglob("*.json")}


def test_two_shares_make_what_the_loop_made_and_nothing_is_done_twice(run, capsys):
    before = contents(run)
    assert answer(capsys, run)["probed"] and contents(run) == before
    assert not any(row["new"] for row in answer(capsys, run)["probed"])
    shutil.rmtree(run / "probes")
    first = answer(capsys, run, "--part", "1/2")["probed"]
    assert [(row["step"], row["new"]) for row in first] == [(0, True), (8, True)]
    assert {probe["step"] for probe in read_probes(run)} == {0, 8}
    assert [row["step"] for row in answer(capsys, run.parents[1], "--part", "2/2")["probed"]] == [4]
    assert contents(run) == before


def test_a_checkpoint_stays_in_its_share_whatever_comes_and_goes(run):
    shares = {step: share_of(run, step, 3) for step in STEPS}
    assert sorted(shares.values()) == [1, 2, 3]  # one after the other
    shutil.rmtree(run / "checkpoints" / "step_00000004")
    (run.parent / "seed7").mkdir()
    assert {step: share_of(run, step, 3) for step in STEPS} == shares
    assert {share_of(run, step, 1) for step in STEPS} == {1}


def test_another_protocol_joins_those_that_are_there(run, trained, capsys):
    before = {probe["step"]: probe["results"] for probe in read_probes(run)}
    more = ["probe=[linear]"]
    shutil.rmtree(run / "probes" / "step_00000008")
    line = [o for o in trained[0] if o.startswith(("data.cohort", "task.", "cache_dir", "augmentation"))]
    rows = answer(capsys, run, *line, *more)["probed"]
    assert [row["new"] for row in rows] == [False, False, True]
    assert {key.split("/")[0] for key in rows[-1]["results"]} == {"linear"}
    answer(capsys, run)
    assert {probe["step"]: probe["results"] for probe in read_probes(run)} == before
    assert {"linear_scores", "knn_scores"} <= set(read_predictions(run, 8, "synthetic"))


@pytest.fixture
def line(trained):
    """Overrides that name the run's own task on the command line."""
    return [o for o in trained[0] if o.startswith(("data.cohort", "task.", "cache_dir", "augmentation"))]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["features.pool=cls_mean"], "features.pool: cls there, cls_mean here"),
        (["task.synthetic.image_px=32"], "task.image_px: 64 there, 32 here"),
        (["probe.linear.c_grid=[1.0]"], "protocols.linear.c_grid"),
        (["robustness.stain=[0.2]"], "robustness.stain"),
    ],
)
def test_numbers_of_other_settings_are_not_taken_for_those_that_are_asked_for(change, says, run, line, capsys):
    before = contents(run)
    assert main(["probe", str(run), *line, *change]) == 2
    said = capsys.readouterr().err
    assert says in said and "--again" in said and contents(run) == before


def test_numbers_of_another_folder_are_not_those_of_the_first_though_both_have_its_name(run, cohort, tmp_path, capsys):
    for name, kept in (("one", 1.0), ("other", 0.5)):
        shutil.copytree(cohort / "labelled", tmp_path / name)
        head, *rows = (tmp_path / name / "labels.csv").read_text().splitlines()
        groups = sorted({row.split(",")[2] for row in rows})
        if kept < 1:  # other labels: of every other case the classes are swapped
            classes = sorted({row.split(",")[1] for row in rows})
            after = dict(zip(classes, classes[1:] + classes[:1], strict=True))
            rows = [
                ",".join([p, after[c] if g in groups[::2] else c, g, *r])
                for p, c, g, *r in (x.split(",") for x in rows)
            ]
        (tmp_path / name / "labels.csv").write_text("\n".join([head, *rows]) + "\n")

    def probe(name, *more):
        return main(["probe", str(run), "task=[folder]", "probe=[knn]", f"task.folder.path={tmp_path / name}",
                     "task.folder.image_px=64", f"cache_dir={tmp_path}", "--json", *more])  # fmt: skip

    assert probe("one") == 0 and probe("one") == 0
    first = {probe_["step"]: probe_["results"] for probe_ in read_probes(run) if probe_["task"] == "folder"}
    assert probe("other") == 2 and "images: " in capsys.readouterr().err
    assert probe("other", "--again") == 0
    second = {probe_["step"]: probe_["results"] for probe_ in read_probes(run) if probe_["task"] == "folder"}
    assert first.keys() == second.keys() and first != second


def test_what_an_encoder_cannot_be_probed_on_is_said_before_it_is_trained(run, line, trained, tmp_path, capsys):
    assert main(["probe", str(run), *line, "task.synthetic.image_px=70", "--again"]) == 2
    assert "task.synthetic.image_px=70 is not a multiple" in capsys.readouterr().err
    for change, says in (
        ("features.pool=bogus", "features.pool=bogus is not one of cls"),
        ("probe.where=jobs", "jobs is not one"),
    ):
        done = train(*trained[0], change, "seed=9", cwd=tmp_path)
        assert done.returncode == 2 and says in done.stderr and not list(tmp_path.glob("outputs/*/*/seed9"))


def test_a_run_of_an_earlier_version_is_refused_in_a_sentence(run, capsys):
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["features"], config["probe"]["where"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["probe", str(run)]) == 2
    assert "does not say features, probe.where" in capsys.readouterr().err


def test_a_file_of_weights_has_the_numbers_of_its_checkpoint(run, trained, capsys):
    weights = run / "checkpoints" / "step_00000008" / "teacher.safetensors"
    said = answer(capsys, weights, *trained[0], "--held-out")
    row = {key: value for key, value in read_rows(run)[-1].items() if key.startswith(("probe/", "unsupervised/"))}
    assert {key: said[key] for key in row} == row and any("stain_flips" in key for key in row)
    assert "unsupervised/rankme" in row


@pytest.mark.slow
def test_a_name_of_timms_has_the_numbers_of_its_weights_in_the_colours_of_its_training(hub, trained, tmp_path, capsys):
    line = [o for o in trained[0] if o.startswith(("data.cohort", "task.", "cache_dir"))] + ["probe=[knn]"]
    said = answer(capsys, "timm:vit_tiny_patch16_224", *line)
    save_file(hub.state_dict(), tmp_path / "weights.safetensors")
    config = compose(line)
    config["model"] = {**config["model"], "name": "vit_tiny_patch16_224", "args": {}}
    config["augmentation"] |= {key: list(hub.pretrained_cfg[key]) for key in ("mean", "std")}
    assert said == {"text": said["text"], **probe_weights(tmp_path / "weights.safetensors", config)}
    colours = [f"augmentation.{key}={list(hub.pretrained_cfg[key])}" for key in ("mean", "std")]
    by_name = ["model.name=vit_tiny_patch16_224", *colours]  # with timm's arguments, not vit_nano's
    assert answer(capsys, tmp_path / "weights.safetensors", *line, *by_name) == said
    assert (
        main(["probe", "timm:vit_small_patch16_224", *line]) == 2
        and "no usable pretrained weights" in capsys.readouterr().err
    )
    assert main(["probe", "timm:no_such_model", *line]) == 2 and "no_such_model" in capsys.readouterr().err


def test_each_protocol_runs_on_the_tasks_of_its_kind_and_masks_join_in_the_report(run, trained, capsys):
    shutil.rmtree(run / "probes" / "step_00000004")
    own = read_json(run / "tasks.json")
    masks = [f"task.synthetic_nuclei.{line[5:]}" for line in trained[0] if line.startswith("data.cohort")]
    heads = ["probe.seg_linear.runs=1", "probe.seg_linear.steps=4", "probe.seg_linear.checks=1"]
    line = [o for o in trained[0] if o.startswith(("data.cohort", "task.", "cache_dir", "augmentation"))]
    line += [*masks, "task=[synthetic,synthetic_nuclei]", "probe=[knn,seg_linear]", "task.synthetic_nuclei.image_px=32"]
    rows = answer(capsys, run, *line, *heads)["probed"]
    assert [(row["step"], row["task"]) for row in rows if row["new"]] == [
        (0, "synthetic_nuclei"), (4, "synthetic"), (4, "synthetic_nuclei"), (8, "synthetic_nuclei"),
    ]  # fmt: skip
    found = {(probe["step"], probe["task"]): set(probe["results"]) for probe in read_probes(run)}
    measures = {f"seg_linear/{split}/{name}" for split in ("val", "test") for name in ("dice", "miou")}
    assert found[8, "synthetic_nuclei"] == measures
    nulls = {key.replace("linear", f"linear_{null}") for null in NULLS for key in measures}
    assert found[0, "synthetic_nuclei"] == measures | nulls
    assert {key.split("/")[0] for key in found[4, "synthetic"]} == {"knn"}
    counts = read_predictions(run, 8, "synthetic_nuclei")["seg_linear_confusion"]
    assert counts.shape == (2, 1, 2, 2) and (counts.sum(axis=(1, 2, 3)) == 256 * 256).all()
    assert not any(row["new"] for row in answer(capsys, run, *line, *heads)["probed"])
    tasks = read_json(run / "tasks.json")
    assert list(tasks) == ["synthetic", "synthetic_nuclei"] and tasks["synthetic"] == own["synthetic"]
    assert tasks["synthetic_nuclei"]["images"]["image_px"] == 32
    assert main(["report", str(run.parents[1])]) == 0
    assert "linear segmentation" in (run.parents[1] / "report" / "index.html").read_text()
    assert (
        "| synthetic_nuclei | train" in (run.parents[1] / "report" / "report.md").read_text()
    )  # in the table of tasks


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "There is no run in nowhere"),
        (["outputs", "task=[]", "data=folder", "data.path=x"], "name a task"),
        (["w.safetensors", "--part", "1/2"], "by themselves, and whole"),
    ],
)
def test_what_cannot_be_probed_is_said(words, says, tmp_path):
    done = pathssl("probe", *words, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_a_protocol_that_is_not_for_a_task_does_not_bring_it_up_again(run, trained, capsys):
    line = [o for o in trained[0] if o.startswith(("data.cohort", "task.", "cache_dir", "augmentation"))]
    rows = answer(capsys, run, *line, "probe=[knn,slide_abmil]")["probed"]
    assert [row["new"] for row in rows] == [False] * 3


@pytest.fixture
def labelled(cohort, tmp_path):
    """A folder of four images, two classes; `write(rows)` writes its table."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    rows = []
    for k, file in enumerate(sorted((cohort / "labelled").rglob("*.png"))[::20][:4]):
        shutil.copy(file, folder / f"image{k}.png")
        rows.append([f"image{k}.png", "ab"[k % 2], ("train", "val")[k // 2], f"patient{k}"])

    def write(rows):
        (folder / "labels.csv").write_text("\n".join(["path,label,split,group_id", *map(",".join, rows)]) + "\n")

    return folder, rows, write


def other(trained, folder, *more):
    own = [o for o in trained[0] if o.startswith(("data.cohort", "cache_dir", "augmentation"))]
    return [
        *own,
        "task=[folder]",
        f"task.folder.path={folder}",
        "task.folder.image_px=64",
        "probe=[knn]",
        "leakage.patches=8",
        *more,
    ]


def test_what_was_trained_on_is_refused_or_labelled_when_it_is_probed(run, trained, labelled, capsys):
    folder, rows, write = labelled
    config = config_of(run)
    data = sources.Data(config)
    case = data.index.case[int(data.training_slides[0])]
    patch = data.reader(config["seed"]).read(np.arange(3)).pixels[2]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(patch[:, ::-1])).save(file, "JPEG", quality=60)
    (folder / "planted.jpg").write_bytes(file.getvalue())
    write([[*rows[0][:3], f"{case}_block2"], *rows[1:], ["planted.jpg", "a", "val", "someone"]])
    before = read_json(run / "leakage.json")

    assert main(["probe", str(run), *other(trained, folder)]) == 2
    said = capsys.readouterr().err
    assert f"case {case}: image0.png" in said and "planted.jpg" in said and "leakage.on_overlap=label" in said
    assert {probe["task"] for probe in read_probes(run)} == {"synthetic"}
    assert read_json(run / "leakage.json") == before

    assert main(["probe", str(run), *other(trained, folder, "leakage.on_overlap=label")]) == 0
    found = {one["kind"]: one["images"] for one in read_leaks(run)["folder"]}
    assert found == {"case": ["image0.png"], "slide": ["image0.png"], "patch": ["planted.jpg"]}
    assert read_json(run / "leakage.json")["compared"]["images"] == before["compared"]["images"] | {"folder": 5}
    assert main(["probe", str(run), *other(trained, folder, "probe=[knn,linear]")]) == 2  # as it is known by now

    write(rows)  # another set of the same name has nothing of it
    assert main(["probe", str(run), *other(trained, folder, "--again")]) == 0
    assert read_leaks(run) == {}


def test_a_run_without_its_slides_is_probed_on_other_images_only_where_nobody_is_to_look(
    run, trained, labelled, capsys
):
    folder, rows, write = labelled
    write(rows)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("  path: null\n  manifest", "  path: /nowhere\n  manifest", 1))
    assert config_of(run)["data"]["path"] == "/nowhere"
    assert main(["probe", str(run)]) == 0  # its own images were looked at
    assert main(["probe", str(run), *other(trained, folder)]) == 2
    assert "leakage.on_overlap=ignore" in capsys.readouterr().err
    assert main(["probe", str(run), *other(trained, folder, "leakage.on_overlap=ignore")]) == 0
    assert main(["probe", str(run), *other(trained, folder, "leakage.on_overlap=perhaps", "--again")]) == 2
    assert "refuse, label, ignore" in capsys.readouterr().err
