"""The arms of every study compose at both scales, can be built, and differ in what the study varies and in nothing else."""

import re
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import COHORT
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from safetensors.torch import save_file

from pathssl import parts, sources
from pathssl.augment import MultiCrop
from pathssl.checks import check, check_held_out, check_passes, check_patch_size, check_probed
from pathssl.complaints import CONF
from pathssl.identity import arm_name, flatten, run_folder
from pathssl.launch.grid import read_grid
from pathssl.make import make
from pathssl.models.encoder import create_encoder
from pathssl.run import derived

EXPERIMENTS = CONF.parent / "experiments"
STUDIES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml") if not path.stem.startswith("table1"))
SCALES = ("tiny", "paper")
SCANNED_40X = {"mpp": 0.25, "slide_px": 2048, "cases": 2, "sites": 1, "labelled_cases": 3, "patches_per_class": 1}

# What the arms differ in, as found by hand; by scale where that is not the same.
TERMS = ("horizontal_flip", "vertical_flip", "turn", "hed", "jitter", "grey", "blur", "solarise")
OF_DINOV2 = ("_target_", "norm_last_layer", "warmup_teacher_fraction", "patch_head", "patch_weight", "mask_probability")
OF_DINOV2 += ("mask_ratio", "spread")
VARIED = {
    "augmentation": {f"augmentation.{term}" for term in TERMS},
    "batch_size": {"batch.size", "batch.lr_rule", "batch.momentum_rule"},
    "centring": {"objective.centring"},
    "demo": {"teacher.momentum", "teacher.final_momentum"},
    "distinct_patches": {"data.limit.patches"},
    "foreground": {"data.foreground.min_tissue", "data.foreground.method"},
    "initialisation": {
        "tiny": {"init.path", "init.strict"},
        "paper": {"init.pretrained", "init.name"},
    },
    "magnification": {"magnification.mpp", "magnification.weight", "magnification.continuous"},
    "model_size": {
        "tiny": {"model.args.embed_dim", "model.args.depth", "model.args.num_heads"},
        "paper": {"model.name"},
    },
    "objective": {
        "tiny": {f"objective.{key}" for key in OF_DINOV2},
        "paper": {f"objective.{key}" for key in (*OF_DINOV2, "teacher_temperature")},  # which scale=tiny sets for all
    },
    "patch_filter": {f"patch_filter.{key}" for key in ("_target_", "least", "hue", "saturation", "value")},
    "regions": {"region.patches", "region.width", "region.chunk_batches"},
    "resolution": {"resolution.patch_px", "resolution.global_px", "resolution.local_px"},
    "slides_count": {"data.limit.slides"},
    "spread": {"objective.spread.kind"},
    "teacher_momentum": {"teacher.momentum", "teacher.final_momentum"},
    "vit_patch_size": {"model.args.patch_size"},
}


@pytest.fixture(scope="module", autouse=True)
def parsed_once():
    """Each file of conf/ is parsed once, which halves the time."""
    parsed = cache(lambda path: yaml.load(Path(path).read_text(), Loader=get_yaml_loader()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(lambda file: OmegaConf.create(parsed(file.name) or {})))
        yield


def study_file(study: str) -> dict:
    return yaml.safe_load((EXPERIMENTS / f"{study}.yaml").read_text())


def typed(study: str, scale: str) -> list[str]:
    """What its command has beside its name."""
    if scale == "tiny" or study == "demo":  # which is tiny at every scale
        return [] if scale == "tiny" else ["data=tcga_20x", "task=[quick]"]
    text = (EXPERIMENTS / f"{study}.yaml").read_text()
    (at_paper,) = re.findall(rf"python train.py experiment={study} (data=tcga_20x.*?) -m", text)
    return shlex.split(at_paper)


@cache
def jobs(study: str, scale: str) -> dict[str, list[str]]:
    """{arm: the overrides of its first seed}."""
    grid = read_grid([f"experiment={study}", *typed(study, scale)])
    (factor,) = grid.swept.keys() - {"seed"}
    first = grid.swept["seed"][0]
    return {f"{factor}={value}": [*grid.fixed, f"{factor}={value}", f"seed={first}"] for value in grid.swept[factor]}


@cache
def arms(study: str, scale: str) -> dict[str, DictConfig]:
    by_arm = jobs(study, scale)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return {arm: compose("config", overrides) for arm, overrides in by_arm.items()}


def plain(config: DictConfig) -> dict:
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("study", STUDIES)
def test_arms_differ_in_what_the_study_varies_and_in_nothing_else(study, scale):
    # Unresolved: what follows another key is a reference to it in all arms.
    flat = [flatten(OmegaConf.to_container(config, resolve=False)) for config in arms(study, scale).values()]
    keys = {key for one in flat for key in one}
    different = {key for key in keys if len({repr(one.get(key, "(none)")) for one in flat}) > 1}
    varied = VARIED[study][scale] if isinstance(VARIED[study], dict) else VARIED[study]
    assert {next((k for k in varied if f"{key}.".startswith(f"{k}.")), key) for key in different} == varied
    assert len(flat) > 1 and len({str(one) for one in flat}) == len(flat)  # no two arms are the same


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("study", STUDIES)
def test_arms_are_of_that_scale_and_the_baseline_is_one_of_them(study, scale):
    for arm, config in arms(study, scale).items():
        assert config.study == study and config.report.baseline in arms(study, scale), arm
        assert (config.train.patches < 20_000) == (scale == "tiny") == (config.data.path is None), arm
        assert scale == "paper" or config.resolution.global_px <= 64, arm


def checked(config: dict, encoder: torch.nn.Module) -> dict:
    """The config with what follows from it, after all that is refused before slides are looked at."""
    check(config)
    check_patch_size(encoder, config)
    check_probed(encoder, config)
    check_held_out(encoder, config)
    check_passes(config, config["batch"]["size"])
    return config | {"derived": derived(config)}


@pytest.mark.parametrize("study", STUDIES)
def test_every_arm_can_be_built_at_scale_paper(study):
    for config in map(plain, arms(study, "paper").values()):
        model = config["model"]
        with torch.device("meta"):
            encoder = create_encoder(model["name"], model["args"], model["drop_path"], model["drop_path_rule"])
            make(config["objective"], encoder)
        checked(config, encoder)
        assert isinstance(make(config["augmentation"]), MultiCrop)
        make(config["patch_filter"])


@pytest.mark.parametrize("study", STUDIES)
def test_every_arm_can_begin_at_scale_tiny(study, cohort, tmp_path):
    """On a small cohort: its slides, its first patches, the model and its views."""
    for arm, composed in arms(study, "tiny").items():
        config = plain(composed) | {"cache_dir": str(cohort.parent / "cache")}
        config["data"]["cohort"] |= COHORT | (SCANNED_40X if study == "magnification" else {})
        if path := config["init"]["path"]:
            config["init"]["path"] = write_weights(config, tmp_path / path)
        objective = parts.objective(config)
        config = checked(config, objective.student.encoder)
        data = sources.Data(config)
        patches = data.reader(config["seed"]).read(np.arange(4))
        views = make(config["augmentation"])(
            torch.from_numpy(patches.pixels), torch.from_numpy(patches.draws.views_seed)
        )
        assert len(views) and patches.pixels.shape[1] == config["resolution"]["patch_px"], arm


def write_weights(config: dict, path: Path) -> str:
    """The file, as a run leaves it, of the same model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(create_encoder(config["model"]["name"], config["model"]["args"]).state_dict(), path)
    return str(path)


def test_the_initial_weights_of_scale_tiny_are_where_the_command_beside_them_leaves_them():
    text = (CONF / "init" / "other_cohort.yaml").read_text()
    (command,) = re.findall(r"python train.py (.*'task=\[\]')", text)
    assert f"python train.py {command} && " in (EXPERIMENTS / "initialisation.yaml").read_text()
    overrides = shlex.split(command)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        made, taken = (plain(compose("config", one)) for one in (overrides, ["init=other_cohort"]))
    steps = derived(made)["total_steps"]
    weights = run_folder(made, arm_name(overrides)) / "checkpoints" / f"step_{steps:08d}" / "teacher.safetensors"
    assert taken["init"]["path"] == str(weights)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_asks_expects_and_says_by_what_it_is_judged(study):
    content = study_file(study)
    report, params = content["report"], content["hydra"]["sweeper"]["params"]
    assert content["study"] == study
    assert {"question", "expectation", "baseline"} <= report.keys() and report["question"].endswith("?")
    assert len(params) == 2 and len(params["seed"].split(",")) >= (2 if study == "demo" else 3)
    text = (EXPERIMENTS / f"{study}.yaml").read_text()
    assert f"python train.py experiment={study} " in text and f"pathssl report outputs/{study}\n" in text
    if study != "demo":
        assert f"python train.py experiment={study} data=tcga_20x" in text
        assert "# Expected: " in text and "# Published" in text


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("study", STUDIES)
def test_its_metrics_are_measured_by_its_runs(study, scale):
    """On images that chose nothing, where the task has any."""
    config = plain(next(iter(arms(study, scale).values())))
    of_scale = yaml.safe_load((CONF / "report" / f"{scale}.yaml").read_text())
    assert config["report"]["primary"] == config["report"]["metrics"][0] == of_scale["primary"]
    assert {key for key in of_scale["metrics"] if key.startswith("probe/")} <= {*config["report"]["metrics"]}
    stains = {f"stain_distance_{sigma:g}" for sigma in config["robustness"]["stain"]}
    for key in config["report"]["metrics"]:
        kind, *rest = key.split("/")
        if kind == "unsupervised":
            assert rest[0] in {"rankme", "odcorr", *stains}, key
        else:
            task, protocol, split, metric = rest
            assert task in config["task"] and protocol in config["probe"], key
            assert split == config["task"][task].get("scored", "test"), key
            assert metric == ("dice" if protocol.startswith("seg_") else "balanced_accuracy"), key


def test_every_study_has_its_row_in_the_list():
    rows = re.findall(r"^\| \[(\w+)\]\(\1\.yaml\)", (EXPERIMENTS / "README.md").read_text(), re.M)
    assert sorted({*rows} - {"table1"}) == STUDIES


def test_what_a_study_does_at_a_scale_belongs_to_a_study():
    for path in (CONF / "grid").glob("*/*"):
        assert path.parent.name in STUDIES and path.stem in SCALES and path.suffix == ".yaml", path
