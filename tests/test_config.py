"""The configuration composes as the README says, and complains as it should."""

import itertools
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pathssl.complaints import CONF, known_keys, suggestions

OPTIONS = {
    group.name: sorted(path.stem for path in group.glob("*.yaml"))
    for group in sorted(CONF.iterdir())
    if group.is_dir() and group.name not in ("hydra", "cohort", "experiment", "table1", "at_scale", "grid")
}


@cache
def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


# Groups whose options bring those of other groups with them are composed by themselves, the others together: composing takes its time.
LEADING = ("recipe", "data", "scale", "task", "probe")
TOGETHER = {group: options for group, options in OPTIONS.items() if group not in LEADING}


@pytest.mark.parametrize("nth", range(max(map(len, TOGETHER.values()))))
def test_every_option_composes(nth):
    config = composed(*(f"{group}={options[nth % len(options)]}" for group, options in TOGETHER.items()))
    assert config["study"] == "scratch"


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in LEADING for option in OPTIONS[group]])
def test_every_leading_option_composes(group, option):
    value = f"[{option}]" if group in ("task", "probe") else option
    assert composed(f"{group}={value}")["study"] == "scratch"


def test_scale_follows_the_data_unless_named():
    budget = {name: composed(f"scale={name}")["train"]["patches"] for name in OPTIONS["scale"]}
    assert composed()["train"]["patches"] == budget["tiny"]
    assert composed("data=folder", "data.path=x")["train"]["patches"] == budget["small"]
    assert composed("data=tcga_20x")["train"]["patches"] == budget["paper"]
    assert composed("data=tcga_20x", "scale=tiny")["train"]["patches"] == budget["tiny"]


def test_what_is_typed_wins_over_scale_and_data():
    config = composed("data=tcga_20x", "magnification=5x", "batch=b1024", "resolution=r64")
    assert config["magnification"]["mpp"] == [2.0]
    assert config["batch"]["size"] == 1024 and config["resolution"]["global_px"] == 64


def test_an_experiments_root_keys_win_over_the_config():
    config = composed("experiment=demo")
    assert config["study"] == "demo"
    assert config["report"]["baseline"] == "teacher=m0.98"


def test_the_command_of_the_readme_composes():
    config = composed("model=vitl16", "data=tcga_20x")
    assert config["model"]["name"] == "vit_large_patch16_224"
    assert config["magnification"]["mpp"] == [0.5] and config["data"]["path"]


def test_batch_options_differ_in_size_alone_and_unscaled_ones_in_the_rules():
    batch = {option: composed(f"batch={option}")["batch"] for option in OPTIONS["batch"]}
    rules = {"lr_rule": "none", "momentum_rule": "none"}
    for option, settings in batch.items():
        sized, _, unscaled = option.partition("_")
        assert settings == batch["b256"] | {"size": int(sized[1:])} | (rules if unscaled else {})


@pytest.mark.parametrize("group", ["teacher", "magnification", "augmentation"])
def test_options_of_a_group_have_the_same_keys(group):
    keys = [set(composed(f"{group}={option}")[group]) for option in OPTIONS[group]]
    assert all(one == other for one, other in itertools.pairwise(keys))


def test_a_misspelt_key_is_answered_with_the_right_one():
    assert "teacher.momentum" in suggestions(["teacher.momentun=0.9"])[0]
    assert "model" in suggestions(["modle=vits16"])[0]
    assert suggestions(["model=vits16", "task.folder.path=x", "hydra.launcher.parallel=2", "+train.threads=1"]) == []
    assert suggestions(["data.cohort.seed=1", "task.synthetic.cohort.cases=3"]) == []
    assert {"study", "train.patches", "data.foreground.method", "model", "hydra/launcher", "experiment"} <= known_keys()


def test_the_experiment_group_is_the_experiments_folder():
    assert (CONF / "experiment").resolve() == Path(CONF).parent / "experiments"
