"""python -m pathssl bench, as it is typed."""

import json

import pytest
from programs import pathssl

pytestmark = pytest.mark.slow


def bench(*arguments, cwd):
    return pathssl("bench", *arguments, cwd=cwd)


def test_augment_takes_overrides_and_prints_json(tmp_path):
    done = bench("augment", "resolution=r64", "augmentation.local_crops=2", "--json", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {"what", "machine", "rows", "ratios", "missing"} <= set(answer) and answer["what"] == "augment"
    assert (
        "4 views (2 x 64, 2 x 32) of 96 px" in answer["rows"][0]["setting"] and "views/torchvision" in answer["ratios"]
    )
    assert not list(tmp_path.iterdir())


def test_step_measures_the_tiny_scale_on_a_cpu(tmp_path):
    arguments = ["step", "train.device=cpu", "--json", "--rounds", "1", "--patches", "48"]
    done = bench(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["what"] == "step" and answer["setting"]["batch"] == 48 and answer["setting"]["out_dim"] == 512
    assert "step/bare" in answer["ratios"] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "nothing"),
        (["augment", "resolutoin=r64"], "Did you mean resolution"),
        (["augment", "--rounds", "0"], "--rounds 0"),
        (["loader", "--patches", "0"], "--patches 0"),
        (["step", "parallel.accumulate=2"], "parallel.accumulate"),
        (["loader", "--tissue", "nowhere.svs"], "--tissue nowhere.svs"),
    ],
)
def test_mistakes_are_answered_in_a_sentence_with_exit_code_2(arguments, says, tmp_path):
    done = bench(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
