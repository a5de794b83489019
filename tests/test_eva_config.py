"""What is handed to kaiko-eva: its settings are those of our own protocol, it finds the export wherever it lies, and takes its features."""

from pathlib import Path

import pytest
import timm
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from programs import ROOT

from pathssl.errors import UserError
from pathssl.eva_config import TASKS, eva_config, eva_tasks, write_eva_configs
from pathssl.models.encoder import create_encoder
from pathssl.probes.embedding import Embedding

NANO = {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2}
COLOURS = {"mean": [0.5, 0.6, 0.7], "std": [0.2, 0.3, 0.4]}
CLS = {"pool": "cls", "block": None}
VARIABLES = "N_RUNS MAX_STEPS OUTPUT_ROOT DATA_ROOT EMBEDDINGS_ROOT EXPORT_ROOT RESIZE_DIM PATIENCE LR_VALUE BATCH_SIZE ACCELERATOR"
VARIABLES += " PREDICT_BATCH_SIZE N_DATA_WORKERS MONITOR_METRIC MONITOR_METRIC_MODE"


@pytest.fixture
def encoder():
    return create_encoder("vit_tiny_patch16_224", NANO).eval()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES.split():
        monkeypatch.delenv(name, raising=False)


def made(name, encoder, *, features=CLS, called="my-vit", resolve=True) -> dict:
    content = eva_config(name, encoder=encoder, config={"features": features, "augmentation": COLOURS}, called=called)
    if not resolve:
        return content
    return read(OmegaConf.to_container(OmegaConf.create(content), resolve=True))


def read(value):
    """As eva's parser reads it: what came of a variable, or of its default, is text, and may be a number."""
    if isinstance(value, dict):
        return {key: read(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [read(inner) for inner in value]
    return yaml.safe_load(value) if isinstance(value, str) and value[:1].isdigit() else value


def trainer(content) -> dict:
    found = {
        callback["class_path"].rpartition(".")[2]: callback.get("init_args")
        for callback in content["trainer"]["init_args"]["callbacks"]
    }
    return {**content["trainer"]["init_args"], **found}


def conf(name) -> dict:
    return yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text())


def images_of_train(name) -> int:
    count = conf(f"task/{name}")["counts"]["train"]
    return sum(count.values()) if isinstance(count, dict) else count


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.segmentation and not task.few_shot])
def test_settings_are_those_of_our_own_eva(name, encoder):
    ours = instantiate(conf("probe/eva") | {"device": "cpu"})
    evas = made(name, encoder)
    optimiser = evas["model"]["init_args"]["optimizer"]
    assert optimiser == {"class_path": "torch.optim.AdamW", "init_args": {"lr": ours.lr}}
    assert evas["data"]["init_args"]["dataloaders"]["train"]["batch_size"] == ours.batch
    assert (trainer(evas)["max_steps"], trainer(evas)["n_runs"]) == (ours.steps, ours.runs)
    assert trainer(evas)["EarlyStopping"]["patience"] == ours.looks(images_of_train(name))


def test_ten_shots_are_trained_as_ours(encoder):
    evas, ours = trainer(made("pcam_10shot", encoder)), conf("probe/eva_10shot")
    assert (evas["n_runs"], evas["EarlyStopping"]["patience"]) == (ours["runs"], ours["patience"])
    assert evas["check_val_every_n_epoch"] == ours["look_every"]
    (sampler,) = made("pcam_10shot", encoder)["data"]["init_args"]["samplers"].values()
    assert sampler["init_args"]["num_samples"] == conf("task/pcam_10shot")["shots"]


@pytest.mark.parametrize("name", ["consep", "monusac"])
def test_decoders_are_trained_as_ours(name, encoder):
    evas, ours = made(name, encoder), conf("probe/seg_conv")
    assert evas["model"]["init_args"]["optimizer"]["init_args"]["lr"] == ours["lr"]
    assert evas["data"]["init_args"]["dataloaders"]["train"]["batch_size"] == ours["batch_size"]
    assert (trainer(evas)["max_steps"], trainer(evas)["n_runs"]) == (ours["steps"], ours["runs"])
    # Different on purpose: eva's newest configurations name no schedule, ours is the polynomial of its earlier ones.
    assert "lr_scheduler" not in evas["model"]["init_args"] and ours["lr_power"] == 0.9
    assert trainer(evas)["SegmentationEmbeddingsWriter"]["backbone"]["init_args"]["out_indices"] == 1


@pytest.mark.parametrize("name", TASKS)
def test_classes_splits_and_images(name, encoder):
    evas = made(name, encoder)["data"]["init_args"]["datasets"]
    task = TASKS[name]
    assert list(evas) == [*(["train", "val", "test"] if task.test else ["train", "val"]), "predict"]
    assert [dataset["init_args"]["split"] for dataset in evas["predict"]] == [
        "train",
        task.val,
        *([task.test] if task.test else []),
    ]
    for dataset in evas["predict"]:
        assert dataset["class_path"] == f"eva.vision.datasets.{task.dataset}"
        assert dataset["init_args"]["root"] == f"./data/{task.root}"
        assert dataset["init_args"]["transforms"]["init_args"] == {"size": 224, **COLOURS}
    writer = [value for key, value in trainer(made(name, encoder)).items() if key.endswith("EmbeddingsWriter")]
    assert writer[0]["dataloader_idx_map"] == dict(enumerate(list(evas)[:-1]))
    assert {value["init_args"]["root"] for key, value in evas.items() if key != "predict"} == {writer[0]["output_dir"]}
    model = made(name, encoder)["model"]["init_args"]
    head = (model["decoder"] if task.segmentation else model["head"])["init_args"]
    outputs = head["num_classes"] if task.segmentation else head["out_features"]
    assert head["in_features"] == 12 and outputs == (1 if task.classes == 2 else task.classes)


def test_environment_variables_override_it_and_it_finds_the_export_anywhere(encoder, monkeypatch):
    assert backbone(made("bach", encoder))["model_name"] == "local-dir:my-vit"
    assert backbone(made("bach", encoder, called="it's my ${vit}"))["model_name"] == "local-dir:it's my ${vit}"
    assert trainer(made("bach", encoder, called="it's my ${vit}"))["default_root_dir"] == "logs/it_s_my___vit_/bach"
    for variable in VARIABLES.split():
        monkeypatch.setenv(variable, f"own {variable}")
    said = yaml.safe_dump(made("bach", encoder), width=1000)
    assert all(f"own {variable}" in said for variable in VARIABLES.split())
    assert "${" not in said and "my-vit" in said  # under EMBEDDINGS_ROOT
    assert backbone(made("bach", encoder))["model_name"] == "local-dir:own EXPORT_ROOT"


def backbone(content) -> dict:
    return trainer(content)["ClassificationEmbeddingsWriter"]["backbone"]["init_args"]


def test_both_kinds_of_token_are_those_of_our_probes():
    args = {"img_size": 28, "embed_dim": 12, "depth": 2, "num_heads": 2}
    encoder = create_encoder("vit_small_patch14_reg4_dinov2", args).eval()
    evas = made("crc", encoder, features={"pool": "cls_mean", "block": None})
    assert evas["model"]["init_args"]["head"]["init_args"]["in_features"] == 24
    extract = backbone(evas)["transforms"]["init_args"]
    assert extract == {"include_patch_tokens": True, "num_register_tokens": 4}
    model = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0, **args, **backbone(evas)["model_kwargs"])
    model.load_state_dict(encoder.state_dict())
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = model.eval()(images)
        ours = Embedding(encoder, pool="cls_mean", block=None)(images)
    evas_features = torch.cat([tokens[:, 0], tokens[:, 1 + extract["num_register_tokens"] :].mean(1)], dim=1)
    torch.testing.assert_close(evas_features, ours)


@pytest.mark.parametrize("features", [{"pool": "mean", "block": None}, {"pool": "cls", "block": -2}])
def test_features_that_eva_cannot_take_are_refused_for_images_and_no_matter_for_masks(features, encoder, tmp_path):
    with pytest.raises(UserError, match=r"features\.pool=cls or cls_mean\).*Export it without --eva"):
        made("mhist", encoder, features=features)
    assert made("consep", encoder, features=features) == made("consep", encoder)
    write_eva_configs(tmp_path, [], encoder=encoder, config={"features": features, "augmentation": COLOURS}, called="x")
    assert not list(tmp_path.iterdir())


def test_images_are_whole_patches():
    encoder = create_encoder("vit_tiny_patch16_224", NANO | {"patch_size": 10, "img_size": 40})
    transform = made("bach", encoder)["data"]["init_args"]["datasets"]["predict"][0]["init_args"]["transforms"]
    assert transform["init_args"]["size"] == 220


def test_files_say_how_to_run_them(encoder, tmp_path):
    config = {"features": CLS, "augmentation": COLOURS}
    write_eva_configs(tmp_path, eva_tasks("bach, monusac"), encoder=encoder, config=config, called="my-vit")
    assert sorted(path.name for path in (tmp_path / "eva").iterdir()) == ["bach.yaml", "monusac.yaml"]
    for name in ("bach", "monusac"):
        text = Path(tmp_path / "eva" / f"{name}.yaml").read_text()
        assert f"eva predict_fit --config my-vit/eva/{name}.yaml" in text and "&id" not in text
        assert yaml.safe_load(text) == made(name, encoder, resolve=False)
        head = [line for line in text.splitlines() if line.startswith("#")]
        assert any("patience of 100 looks is inferred" in line for line in head) == (name == "monusac")
    with pytest.raises(UserError, match=r"--eva bach,panda: 'panda' is no task of eva that .* bach, crc, mhist, pcam"):
        eva_tasks("bach,panda")
