"""python -m pathssl VERB, as it is typed."""

import json
import shutil

import pytest
from PIL import Image
from programs import pathssl

from pathssl import complaints
from pathssl.cli import main
from pathssl.complaints import check_whole
from pathssl.errors import UserError
from pathssl.slides.slide_index import SlideIndex


@pytest.mark.parametrize(
    "verb", ["index", "gallery", "replay", "report", "verify-resume", "status", "retry", "plan", "sweep"]
)
def test_every_verb_has_help_with_an_example(verb, tmp_path):
    done = pathssl(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0 and f"example: python -m pathssl {verb} " in " ".join(done.stdout.split())


def test_index_lists_slides_and_quarantine_for_machines(cohort, tmp_path):
    shutil.copytree(cohort / "slides", tmp_path / "slides")
    (tmp_path / "slides" / "empty.tif").write_bytes(b"")
    done = pathssl("index", "data=folder", "data.path=slides", "data.foreground.cell_um=32", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["slides"] == 4 and answer["tissue_mm2"] > 0
    assert answer["text"].startswith("4 slides of 4 cases and 1 site, ")
    assert answer["quarantined"] == [["empty.tif", "the file is empty"]]


def test_index_does_not_call_a_cohort_whole_while_a_server_is_away(small, monkeypatch, capsys):
    monkeypatch.setattr(SlideIndex, "unreachable", [("a.svs", "it cannot be read now")])
    assert main(["index", *small]) == 1
    assert "1 slide of these could not be reached just now: repeat the command" in capsys.readouterr().out


def test_an_mpp_in_another_unit_is_refused_at_once(cohort, tmp_path):
    slide = next((cohort / "slides").glob("*.tif")).name
    (tmp_path / "manifest.csv").write_text(f"slide,mpp\nslides/{slide},499\n")
    more = [f"data.path={cohort}", f"data.manifest={tmp_path / 'manifest.csv'}"]
    done = pathssl("index", "data=folder", *more, cwd=tmp_path)
    assert done.returncode == 2 and "more than 100 um per pixel. Is it nm?" in done.stderr, done.stderr


def test_gallery_draws_slides_patches_and_views(small, tmp_path):
    done = pathssl("gallery", *small, "--to", "pictures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "pictures/index.html"
    pictures = list((tmp_path / "pictures").glob("*.png"))
    names = {path.name for path in pictures}
    assert {"accepted.png", "rejected.png", "views.png"} <= names and any(name.startswith("slide_") for name in names)
    assert all(Image.open(path).size[0] > 50 for path in pictures)


def test_replay_names_what_a_run_is_going_to_see_for_machines(small, tmp_path):
    compose_and_write(small, tmp_path / "outputs/small/default/seed0")
    done = pathssl("replay", "outputs/small/default/seed0", "--step", 3, "--to", "step3", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["step"], answer["trained"], answer["replaced"]) == (3, False, [])
    assert [row["patch"] for row in answer["patches"]] == list(range(16, 24))
    assert set(answer["patches"][0]) == {"patch", "slide", "case", "site", "x0", "y0", "mpp", "redraws"}
    assert (tmp_path / answer["page"]).is_file() and "has not come to step 3 yet (0 of 8 are done)" in done.stderr


def compose_and_write(overrides, folder):
    """A run's config.yaml, as it stands before its first step."""
    from pathssl import sources
    from pathssl.cli import compose
    from pathssl.identity import config_text
    from pathssl.run import derived

    config = compose(overrides)
    config["derived"] = derived(config) | {"slides": sources.Data(config).fingerprint}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_text(config))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report", "nowhere"], "nowhere"),
        (["replay", "nowhere", "--step", "1"], "There is no run in nowhere"),
        (["index", "dta.path=x"], "Did you mean data.path"),
        (["index", "data=folder", "data.path=nowhere"], "data.path=nowhere"),
        (["index", "data=foldr"], "folder"),
    ],
)
def test_mistakes_are_answered_in_a_sentence_with_exit_code_2(arguments, says, tmp_path):
    done = pathssl(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("order", [["data.path=/none", "--to", "x"], ["--to", "x", "data.path=/none"]])
def test_overrides_may_stand_before_and_after_options(order, capsys):
    assert main(["gallery", "data=folder", *order]) == 2
    assert "/none" in capsys.readouterr().err


def test_words_that_no_verb_takes_are_refused(capsys):
    for words in (["report", "outputs", "data=folder"], ["gallery", "data=synthetic", "--frobnicate"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, answer",
    [
        (["region=4"], "no region=4: choose one of four, single, sixteen"),
        (["magnification=20"], "no magnification=20"),
        (["experiment=dmo"], "Did you mean demo?"),
    ],
)
def test_options_that_are_not_there_are_answered_by_those_that_are(words, answer, capsys):
    assert main(["index", "data=folder", "data.path=/none", *words]) == 2
    assert answer in capsys.readouterr().err


def test_a_file_is_no_folder_for_pictures(tmp_path, capsys, small):
    (tmp_path / "file").write_text("")
    assert main(["gallery", "data=synthetic", "--to", str(tmp_path / "file"), *small]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err


def test_a_study_without_its_grid_is_no_run():
    with pytest.raises(
        UserError, match=r"add -m for all of them, or name one, as in experiment=demo teacher=m0\.98 seed=0"
    ):
        check_whole(["experiment=demo"])
    for line in (
        ["experiment=demo", "-m"],
        ["experiment=demo", "teacher=m0.98"],
        ["experiment=demo", "--cfg", "job"],
        ["seed=1"],
    ):
        check_whole(line)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "grid/augmentation/tiny.yaml",
            "patches:",
            "patchs:",
            r"train\.patchs is not a setting.* Did you mean train\.patches",
        ),
        (
            "experiment/augmentation.yaml",
            "baseline:",
            "baselin:",
            r"report\.baselin is not a setting.* Did you mean report\.baseline",
        ),
    ],
)
def test_a_misspelt_key_in_a_study_s_files_is_refused(file, old, new, said, tmp_path, monkeypatch):
    shutil.copytree(complaints.CONF, tmp_path / "conf")
    monkeypatch.setattr(complaints, "CONF", tmp_path / "conf")
    complaints.check_options(["experiment=augmentation"])
    path = tmp_path / "conf" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=said):
        complaints.check_options(["experiment=augmentation"])
