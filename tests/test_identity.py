import pytest

from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.identity import arm_name, comparable, config_text, refuse_other_run, run_folder

CONFIG = {
    "study": "s",
    "seed": 3,
    "output_dir": "outputs",
    "loader": {"workers": 2},
    "logger": {"wandb": None},
    "probe": {"where": "inline", "wherever": 1},
    "data": {"path": "/here/slides"},
    "optim": {"base_lr": 0.0005, "betas": [0.9, 0.999]},
}


def test_an_arm_is_named_by_its_overrides_without_bookkeeping():
    overrides = [
        "teacher=m0.99",
        "seed=1",
        "experiment=demo",
        "model=vits8",
        "task=[synthetic]",
        "probe=[knn]",
        "loader.workers=4",
    ]
    assert arm_name(overrides) == "model=vits8,teacher=m0.99"
    assert arm_name(["seed=1", "study=x", "hydra/launcher=local", "logger=wandb", "+report.question=why"]) == "default"


def test_long_or_odd_names_are_cut_and_told_apart_by_a_hash():
    one, other = arm_name(["data.path=/a/b c"]), arm_name(["data.path=/a/b_c"])
    assert one != other and "/" not in one + other
    long = [f"optim.key{i}=0.123456" for i in range(30)]
    assert len(arm_name(long)) <= 100 and arm_name(long) != arm_name([*long[:-1], "optim.key29=9"])


def test_the_folder_is_a_function_of_the_config():
    assert str(run_folder(CONFIG, "default")) == "outputs/s/default/seed3"


def test_logger_workers_and_absolute_paths_do_not_make_another_run(tmp_path):
    write_atomic(tmp_path / "config.yaml", config_text(CONFIG))
    refuse_other_run(
        tmp_path,
        CONFIG
        | {"loader": {"workers": 0}, "logger": {"wandb": {"mode": "online"}}, "data": {"path": "/there"}}
        | {"probe": {"where": "job", "wherever": 1}},
    )


def test_another_config_is_refused_with_the_difference(tmp_path):
    write_atomic(tmp_path / "config.yaml", config_text(CONFIG))
    with pytest.raises(UserError, match=r"optim\.base_lr: 0\.0005 there, 0\.001 here"):
        refuse_other_run(tmp_path, CONFIG | {"optim": {"base_lr": 0.001, "betas": [0.9, 0.999]}})
    with pytest.raises(UserError, match=r"data\.path: \(absolute path\) there, slides here"):
        refuse_other_run(tmp_path, CONFIG | {"data": {"path": "slides"}})


def test_comparable_keeps_every_other_key():
    assert set(comparable(CONFIG)) == {"study", "seed", "probe.wherever", "data.path", "optim.base_lr", "optim.betas"}
