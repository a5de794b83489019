"""`python -m pathssl sweep`: the file, and what W&B's own agent makes of it."""

import json

import pytest
import yaml
from programs import pathssl
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from pathssl.errors import UserError
from pathssl.launch.grid import Interval, read_grid
from pathssl.launch.sweep_file import write_sweep

LOG = "optim.base_lr=tag(log,interval(1e-4,1e-2))"


def sweep(*overrides, to, method="grid", metric=None, stop_after=None, processes=1):
    write_sweep(overrides, method=method, metric=metric, stop_after=stop_after, processes=processes, to=to)
    return load_sweep_config(str(to))


def command(config, args) -> list[str]:
    """The words that an agent starts, as its code puts them together."""
    words = create_sweep_command_args({"args": {key: {"value": value} for key, value in args.items()}})
    words["env"] = ["/usr/bin/env"]
    started = []
    for word in create_sweep_command(config["command"]):
        started += words[word[2:-1]] if word.startswith("${") else [word]
    return started


def test_a_study_becomes_a_grid_whose_agents_type_what_we_type(tmp_path):
    config = sweep("experiment=demo", "logger=wandb_offline", "optim.base_lr=1e-3,0.002", to=tmp_path / "sweep.yaml")
    assert (config["method"], config["name"], config["project"]) == ("grid", "demo", "pathssl")
    assert config["metric"] == {"name": "probe/synthetic/linear/val/balanced_accuracy", "goal": "maximize"}
    assert "early_terminate" not in config
    assert {key: value["values"] for key, value in config["parameters"].items()} == {
        "teacher": ["m0.98", "m0.99"],
        "seed": [0, 1],
        "optim.base_lr": [0.001, 0.002],
    }
    started = command(config, {"teacher": "m0.98", "seed": 1, "optim.base_lr": 0.001})
    fixed = ["experiment=demo", "logger=wandb_offline"]
    assert started == ["/usr/bin/env", "python", "train.py", *fixed, "teacher=m0.98", "seed=1", "optim.base_lr=0.001"]
    assert started[3:] == [
        *fixed,
        *read_grid(["teacher=m0.98,m0.99", "seed=0,1", "optim.base_lr=1e-3,0.002"]).jobs()[2],
    ]


def test_null_booleans_and_lists_come_out_as_they_went_in(tmp_path):
    values = {"init.path": ["null", "x.pth"], "init.strict": ["True", "False"], "task": ["[]", "[synthetic]"]}
    grid = read_grid([f"{key}={','.join(texts)}" for key, texts in values.items()])
    assert grid.swept == values
    config = sweep(
        "init.path=null", "task=[],[synthetic]", "init.strict=true,false", metric="train/loss", to=tmp_path / "s.yaml"
    )
    given = {key: parameter["values"] for key, parameter in config["parameters"].items()}
    assert given == {"task": ["[]", "[synthetic]"], "init.strict": [True, False]}
    assert "init.path=null" in command(config, {}) and config["metric"]["goal"] == "minimize"


@pytest.mark.parametrize(
    ("metric", "goal"),
    [
        ("unsupervised/odcorr", "minimize"),
        ("unsupervised/stain_distance_0.05", "minimize"),
        ("unsupervised/site_balanced_accuracy", "minimize"),
        ("probe/synthetic/linear/val/stain_flips_0.05", "minimize"),
        ("unsupervised/rankme", "maximize"),
    ],
)
def test_the_goal_is_the_better_end_of_the_metric(tmp_path, metric, goal):
    assert sweep("seed=0,1", metric=metric, to=tmp_path / "s.yaml")["metric"] == {"name": metric, "goal": goal}


def test_arms_are_not_ranked_by_what_only_describes(tmp_path):
    with pytest.raises(UserError, match=r"unsupervised/apart describes.*Rank arms by"):
        sweep("seed=0,1", metric="unsupervised/apart", to=tmp_path / "s.yaml")


def test_a_search_has_ranges_ends_poor_arms_early_and_chooses_no_seeds(tmp_path):
    overrides = ["experiment=demo", LOG, "schedule.warmup=interval(0.0,0.3)", "batch.size=int(interval(16,64))"]
    config = sweep(*overrides, method="bayes", to=tmp_path / "s.yaml")
    assert config["parameters"] == {
        "teacher": {"values": ["m0.98", "m0.99"]},
        "optim.base_lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "schedule.warmup": {"distribution": "uniform", "min": 0.0, "max": 0.3},
        "batch.size": {"distribution": "int_uniform", "min": 16, "max": 64},
    }
    assert config["early_terminate"] == {"type": "hyperband", "min_iter": 3, "eta": 3}
    assert "seed=0" in config["command"] and "logger=wandb" in config["command"]
    assert read_grid([LOG]).swept == {"optim.base_lr": Interval(1e-4, 1e-2, log=True)}


def test_runs_of_several_processes_are_started_by_torchrun(tmp_path):
    config = sweep("experiment=demo", processes=8, to=tmp_path / "s.yaml")
    assert config["command"][1:6] == ["python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=8"]
    # as those of our own queue: they have the time to save their state when an agent ends them
    assert any(word.startswith("--shutdown-timeout=") for word in config["command"]) and "train.py" in config["command"]


@pytest.mark.parametrize(
    ("overrides", "settings", "says"),
    [
        (["seed=3"], {}, "Nothing is swept"),
        (["teacher=m0.9,m0.99", "scale=small"], {}, "By which metric"),
        (["teacher=m0.9,m0.99", "task=[]"], {}, "balanced_accuracy .report.primary. is not measured by these runs"),
        (["teacher=m0.9,m0.99", "report.primary=unsupervised/apart"], {}, "neither more nor less"),
        (["experiment=demo", LOG], {}, "--method random or bayes"),
        (["experiment=demo"], {"method": "random", "stop_after": 5}, "a run is probed 5 times"),
        (["experiment=demo", "teacher=m0.98,m0.98x"], {}, "Available options in 'teacher'"),
        (["experiment=demo", "teacher.momentun=1,2"], {}, "Did you mean teacher.momentum"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(overrides, settings, says, tmp_path):
    with pytest.raises(UserError, match=says):
        sweep(*overrides, to=tmp_path / "s.yaml", **settings)
    assert not list(tmp_path.iterdir())


def test_as_it_is_typed(tmp_path):
    done = pathssl("sweep", "experiment=demo", "--method", "random", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert yaml.safe_load((tmp_path / answer["file"]).read_text()) == answer["sweep"]
    assert answer["file"] == "outputs/demo/sweep.yaml" and "wandb sweep outputs/demo/sweep.yaml" in answer["text"]
