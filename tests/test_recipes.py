"""The published recipes: that they compose, say what they know, and come to the published numbers."""

import re
from functools import cache
from math import sqrt
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pathssl.complaints import CONF, known_keys
from pathssl.identity import flatten

FILES = sorted((CONF / "recipe").glob("*.yaml"))
RECIPES = [path.stem for path in FILES]
# The factors of a published run: each recipe must say of each where its option comes from.
FACTORS = {
    *("model", "init", "objective", "teacher", "optim", "schedule", "batch"),
    *("magnification", "resolution", "augmentation", "foreground", "patch_filter", "region"),
}
# In a recipe a duration follows from the recipe's own length, and the rules of scaling from its method: set beside the options of a group.
BESIDE = {
    *("batch.reference", "batch.lr_rule", "batch.momentum_rule", "schedule.warmup"),
    *("objective.warmup_teacher_fraction", "optim.freeze_last_layer"),
}


@cache
def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


def published(recipe: str, *overrides: str) -> dict:
    return composed(f"recipe={recipe}", "data=tcga_mixed", *overrides)


def numbers(config: dict) -> dict:
    from pathssl.run import derived

    return derived(config)


def values(path: Path) -> list[str]:
    """The lines of a recipe that say something: not comments, not the bare names of blocks."""
    lines = path.read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#") and not re.fullmatch(r"\s*\w+:", line)]


def inherited(path: Path) -> list[Path]:
    """The recipe's file and those that it builds upon."""
    bases = re.findall(r"^  - (\w+) +#", path.read_text(), flags=re.MULTILINE)
    return [path, *(file for base in bases for file in inherited(path.with_stem(base)))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_says_where_it_comes_from(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_" and re.search(r"arXiv|et al\. \d{4}", lines[1])
    assert all(f"{mark}: " in lines[2] for mark in ("P", "S", "D", "?")), "the legend of the marks"
    unmarked = [line for line in values(path) if not re.search(r"  # [PSD?](?![\w])", line)]
    assert not unmarked


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_names_every_factor(path):
    named = {name for file in inherited(path) for name in re.findall(r"override /(\w+):", file.read_text())}
    assert named == FACTORS


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_of_known_settings(recipe):
    assert {key for key in flatten(published(recipe)) if not key.endswith("._target_")} <= known_keys()


# From the publications, by hand: steps, batch, learning rate, the teacher's momentum at the start.
@pytest.mark.parametrize(
    ("recipe", "steps", "batch", "lr", "momentum"),
    [
        ("kaiko_vits16", 166_700, 768, 5e-4 * 768 / 256, 0.996),
        ("kaiko_vits8", 166_700, 768, 1.5e-3, 0.996),
        ("kaiko_vitb16", 166_700, 768, 1.5e-3, 0.996),
        ("kaiko_vitb8", 166_700, 768, 1.5e-3, 0.996),
        ("dino_vits16", 100 * 1_280_000 // 256, 256, 5e-4, 0.9995),
        ("kaiko_vitl14", 200 * 1_280_000 // 512, 512, 4e-3 * sqrt(512 / 1024), 0.992),
        ("dinov2_vitl14", 500 * 1250, 96 * 32, 2e-4 * sqrt(3), 0.994),
        ("midnight_vitg14", 1_000_000, 768, 3.5e-4 * sqrt(0.75), 0.994),
        ("midnight_vitg14_392", 120_000, 768, 1e-4 * sqrt(0.75), 0.994),
    ],
)
def test_a_recipe_comes_to_the_published_numbers(recipe, steps, batch, lr, momentum):
    config = published(recipe)
    assert config["batch"]["size"] == batch
    assert numbers(config) == {
        "total_steps": steps,
        "patches": steps * batch,
        "lr": pytest.approx(lr),
        "teacher_momentum": pytest.approx(momentum),
        "final_teacher_momentum": 1.0,
    }


def test_no_recipe_is_forgotten_by_the_test_of_numbers():
    (mark,) = test_a_recipe_comes_to_the_published_numbers.pytestmark
    assert sorted(row[0] for row in mark.args[1]) == RECIPES


@pytest.mark.parametrize(
    ("recipe", "steps"),
    # In epochs of 1,250 steps; DINO's epochs are a hundredth of its training.
    [("kaiko_vits16", 1667), ("kaiko_vitl14", 2500), ("dinov2_vitl14", 1250), ("midnight_vitg14", 1250)],
)
def test_durations_that_are_published_in_epochs_are_so_many_steps(recipe, steps):
    epochs = {"kaiko_vits16": (10, 0), "kaiko_vitl14": (10, 30), "dinov2_vitl14": (80, 30), "midnight_vitg14": (80, 30)}
    config = published(recipe)
    total = numbers(config)["total_steps"]
    assert config["optim"]["freeze_last_layer"] * total == pytest.approx(steps)
    warmup, temperature = epochs[recipe]
    assert config["schedule"]["warmup"] * total == pytest.approx(warmup * steps)
    assert config["objective"]["warmup_teacher_fraction"] * total == pytest.approx(temperature * steps)


def test_midnight_is_dinov2s_giant_with_what_it_changed():
    config, parent = published("midnight_vitg14"), published("dinov2_vitl14")
    different = {key for key, value in flatten(config).items() if flatten(parent).get(key, ...) != value}
    assert different == {
        *("model.name", "init.pretrained", "objective.spread.kind", "augmentation.hed.p", "augmentation.hed.sigma"),
        *(f"patch_filter.{key}" for key in ("_target_", "least", "hue", "saturation", "value")),
        *("batch.size", "train.patches", "optim.base_lr"),
        *("objective.warmup_teacher_fraction", "optim.freeze_last_layer", "schedule.warmup"),
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_smaller_scale_shrinks_every_recipe_alike(recipe):
    config, plain = composed(f"recipe={recipe}", "scale=tiny"), composed("scale=tiny")
    for key in ("model", "init", "resolution", "magnification", "augmentation"):
        assert config[key] == plain[key]
    assert numbers(config)["total_steps"] == numbers(plain)["total_steps"]
    assert numbers(config)["lr"] == pytest.approx(numbers(plain)["lr"])
    assert config["objective"]["out_dim"] == plain["objective"]["out_dim"]
    patch_head = config["objective"].get("patch_head", {"separate": False})
    assert not patch_head["separate"] or patch_head["out_dim"] == plain["objective"]["out_dim"]


def test_the_data_decide_on_magnification_and_scale_unless_named():
    assert composed("recipe=kaiko_vits16", "data=tcga_20x")["magnification"]["mpp"] == [0.5]
    assert composed("recipe=kaiko_vits16", "data=folder", "data.path=x")["train"]["patches"] == 1_280_000
    mine = composed("recipe=kaiko_vits16", "data=folder", "data.path=x", "scale=paper")
    assert numbers(mine)["total_steps"] == 166_700 and mine["magnification"]["mpp"] == [2.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize("recipe", ["kaiko_vits16", "midnight_vitg14"])
@pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
def test_options_that_are_typed_win_over_a_recipe(recipe, place):
    options = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml"))[place] for group in sorted(FACTORS)}
    typed = [f"{group}={option}" for group, option in options.items()]
    config, plain = flatten(published(recipe, *typed)), flatten(composed("data=tcga_mixed", *typed))
    assert {key for key in config | plain if config.get(key, ...) != plain.get(key, ...)} <= {*BESIDE, "train.patches"}


def test_an_experiment_may_build_on_a_recipe(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /recipe: kaiko_vits16\n  - override /data: tcga_mixed\n"
        "  - override /teacher: m0.99\ntrain:\n  patches: 7680000\n"
    )
    config = composed("experiment=mine", f"hydra.searchpath=[file://{tmp_path}]")
    assert config["model"]["name"] == "vit_small_patch16_224" and config["teacher"]["momentum"] == 0.99
    assert numbers(config)["total_steps"] == 10_000
    assert (
        composed("experiment=mine", f"hydra.searchpath=[file://{tmp_path}]", "train.patches=768")["train"]["patches"]
        == 768
    )


def test_the_scale_without_a_recipe_is_the_papers_ablation():
    config = composed("data=tcga_20x")
    assert numbers(config)["total_steps"] == 500_000 and config["resolution"]["global_px"] == 224
