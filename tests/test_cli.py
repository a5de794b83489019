"""python -m pathssl VERB, as it is typed."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image


def pathssl(*arguments, cwd):
    command = [sys.executable, "-m", "pathssl", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("verb", ["index", "gallery", "report"])
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
    assert answer["quarantined"] == [["empty.tif", "the file is empty"]]


def test_gallery_draws_slides_patches_and_views(small, tmp_path):
    done = pathssl("gallery", *small, "--to", "pictures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {"accepted.png", "rejected.png", "views.png"} <= names and any(name.startswith("slide_") for name in names)
    assert all(Image.open(path).size[0] > 50 for path in (tmp_path / "pictures").iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report", "nowhere"], "nowhere"),
        (["index", "dta.path=x"], "Did you mean data.path"),
        (["index", "data=folder", "data.path=nowhere"], "data.path=nowhere"),
        (["index", "data=foldr"], "folder"),
    ],
)
def test_mistakes_are_answered_in_a_sentence_with_exit_code_2(arguments, says, tmp_path):
    done = pathssl(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
