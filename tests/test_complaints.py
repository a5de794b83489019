"""What is said, before Hydra speaks, of words that it would answer with a traceback or take for something else."""

import re
import shutil

import pytest
from programs import pathssl, train

from pathssl import complaints
from pathssl.errors import UserError


@pytest.fixture
def study(tmp_path, monkeypatch):
    """study(**params) writes experiments/mine.yaml, whose hydra.sweeper.params has these lines."""
    shutil.copytree(complaints.CONF, tmp_path / "conf")
    monkeypatch.setattr(complaints, "CONF", tmp_path / "conf")

    def write(**params):
        lines = "".join(f"\n      {key}: {value}" for key, value in params.items())
        text = f"# @package _global_\nstudy: mine\nhydra:\n  sweeper:\n    params:{lines}\n"
        (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text)

    return write


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"teacher": "0.9,0.996"}, r"There is no teacher=0\.9: choose one of m0\.9, .*\. Did you mean m0\.9\?"),
        ({"teacher": "0.996"}, r"There is no teacher=0\.996: .* Did you mean m0\.996\?"),
        ({"teacher": "m0.9, 1e-3"}, r"There is no teacher=1e-3: "),
        ({"report": "paper,null"}, r"There is no report=null: choose one of paper, tiny\. For none leave report out\."),
        ({"seed": "[0, 1]"}, r"has a list for seed, .* write seed: 0,1 for a run with each .* seed: \"\[0,1\]\""),
        ({"robustness.stain": "[[0.1], []]"}, r"write robustness\.stain: \[0\.1\],\[\] for"),
        ({"task": "[folder]"}, r"write task: folder for a run with each of them \(or task: \"\[folder\]\""),
    ],
)
def test_what_a_study_sweeps_wrongly_is_refused_with_the_file_s_name(params, said, study):
    study(**params)
    with pytest.raises(UserError, match=rf"/conf/experiment/mine\.yaml: .*{said}"):
        complaints.check_options(["experiment=mine"])


def test_what_a_study_may_sweep_passes(study):
    study(**{"teacher": "m0.9,m0.996", "seed": "0,1", "task": "'[folder],[bags]'", "train.patches": 64})
    complaints.check_options(["experiment=mine"])


@pytest.mark.parametrize("word", ["null", "true", "0.9", "1e3", "-1"])
def test_an_option_is_a_name(word):
    with pytest.raises(UserError, match=re.escape(f"There is no report={word}: choose one of paper, tiny.")):
        complaints.check_options([f"report={word}"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["teacher_momentum", "-m"], "Did you mean experiment=teacher_momentum?"),
        (["-m", "experiments/teacher_momentum.yaml"], "Did you mean experiment=teacher_momentum?"),
        (["seed=1", "teacher_momentm"], "Did you mean experiment=teacher_momentum?"),
        (["vits16"], "vits16 is no override: those are KEY=VALUE, as in model=vits16. `python train.py --help` lists"),
    ],
)
def test_a_word_without_a_key_is_no_override(line, said):
    with pytest.raises(UserError, match=re.escape(said)):
        complaints.check_options(line)


def test_words_of_flags_and_deletions_are_none():
    for line in (["--cfg", "job"], ["-c", "job", "-p", "data"], ["~optim"], ["+new=1"], ["--info", "searchpath"]):
        complaints.check_flags(line)
        complaints.check_options(line)


@pytest.mark.parametrize("flags", [("-m", "--cfg", "job"), ("--cfg=job", "--multirun"), ("--info", "-m"), ("-m", "-c")])
def test_a_grid_has_no_one_config(flags):
    with pytest.raises(UserError, match="leave out -m"):
        complaints.check_flags(["experiment=demo", *flags])


@pytest.mark.parametrize(
    ("door", "line", "said"),
    [
        (train, ["demo", "-m"], "Did you mean experiment=demo?"),
        (pathssl, ["plan", "demo"], "Did you mean experiment=demo?"),
        (pathssl, ["plan", "report=null"], "There is no report=null: choose one of"),
        (train, ["experiment=demo", "-m", "--cfg", "job"], "--cfg prints the config of one run: leave out -m"),
    ],
)
def test_each_door_says_so_in_a_sentence(door, line, said, tmp_path):
    done = door(*line, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
    assert said in done.stderr and not list(tmp_path.iterdir())
