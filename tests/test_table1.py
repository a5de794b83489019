"""Table I as a study: its rows are what they say at every scale, and a small one runs from the command to the table."""

import csv
from functools import cache

import miniatures
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from miniatures_consep import consep
from miniatures_pcam import pcam
from miniatures_tp53 import tcga, write_labels
from omegaconf import OmegaConf
from programs import pathssl, train

from pathssl import sources
from pathssl.complaints import CONF
from pathssl.errors import UserError
from pathssl.models.encoder import create_encoder
from pathssl.records import find_runs, read_config, read_status

ROWS = sorted(path.stem for path in (CONF / "table1").glob("*.yaml"))
TRAINED = [row for row in ROWS if row.startswith("kaiko")]
TASKS = ("bach", "crc", "mhist", "pcam", "consep", "tp53")
PUBLISHED = yaml.safe_load((CONF.parent / "pathssl" / "report" / "published_table1.yaml").read_text())["rows"]


@cache
def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


def test_every_row_has_its_published_figures_and_each_model_a_row():
    rows = {row: yaml.safe_load((CONF / "table1" / f"{row}.yaml").read_text())["report"]["row"] for row in ROWS}
    assert {*rows.values()} == {*PUBLISHED}
    sizes = ("S/16", "S/8", "B/16", "B/8", "L/14")
    assert [rows[f"kaiko_vit{size.lower().replace('/', '')}"] for size in sizes] == [f"kaiko {size}" for size in sizes]
    assert [rows[f"released_vit{size.lower().replace('/', '')}"] for size in sizes] == [
        f"kaiko {size}" for size in sizes
    ]


@pytest.mark.parametrize("row", TRAINED)
def test_a_trained_row_is_its_recipe_at_scale_paper(row):
    study, recipe = (
        composed("experiment=table1", f"table1={row}", "data=tcga_mixed"),
        composed(f"recipe={row}", "data=tcga_mixed"),
    )
    same = [key for key in recipe if key not in ("study", "task", "probe", "leakage", "report")]
    assert {key: study[key] for key in same} == {key: recipe[key] for key in same}
    assert study["study"] == "table1" and study["leakage"]["on_overlap"] == "label"


@pytest.mark.parametrize("row", [row for row in ROWS if row not in TRAINED])
def test_other_rows_are_whole_and_not_trained_at_any_scale(row):
    configs = [composed("experiment=table1", f"table1={row}", "scale=tiny")]
    if row.startswith("r"):  # random, and a few more, for the time that it takes
        configs.append(composed("experiment=table1", f"table1={row}", "data=tcga_mixed"))
    for config in configs:
        assert config["train"]["patches"] == 0 and config["resolution"]["global_px"] == 224
        assert config["init"]["pretrained"] == (row != "random_vits16") == (config["init"]["name"] is not None)
        assert (
            config["model"]["name"]
            == yaml.safe_load((CONF / "model" / f"{row.split('_')[1]}.yaml").read_text())["name"]
        )


def test_miniatures_keep_patches_and_shrink_width_and_depth_alike():
    for row in TRAINED:
        whole, tiny = (
            composed("experiment=table1", f"table1={row}", scale)["model"]
            for scale in ("data=tcga_mixed", "scale=tiny")
        )
        with torch.device("meta"):
            one, other = (create_encoder(model["name"], model["args"]) for model in (whole, tiny))
        assert one.patch_embed.patch_size == other.patch_embed.patch_size
        assert len(one.blocks) == 3 * len(other.blocks) and one.num_prefix_tokens == other.num_prefix_tokens
        assert one.num_features / other.num_features == pytest.approx(6, abs=0.5)
    assert (
        composed("recipe=kaiko_vits8", "scale=tiny")["model"]["args"]["embed_dim"] == 128
    )  # outside the study as it was


def test_the_other_study_takes_released_weights_into_the_same_table():
    config = composed("experiment=table1_released", "data=tcga_mixed")
    assert config["study"] == "table1" and config["train"]["patches"] == 0
    name = "hf-hub:1aurent/vit_small_patch16_224.kaiko_ai_towards_large_pathology_fms"
    assert config["init"]["name"] == name and config["model"]["name"] == "vit_small_patch16_224"


def test_without_datasets_each_is_asked_for_and_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("PATHSSL_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("PATHSSL_TCGA", str(tmp_path / "tcga"))
    with pytest.raises(UserError, match="6 of 6 tasks cannot be read") as error:
        sources.check_tasks(composed("experiment=table1", "scale=tiny", f"output_dir={tmp_path}"))
    assert all(f"\n  {name}: " in str(error.value) for name in TASKS) and not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_small_one_runs_from_the_command_to_the_table(small, tmp_path, monkeypatch):
    """All five models and all six datasets, in miniature; one step of training, and a few of each protocol."""
    monkeypatch.setenv("PATHSSL_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("PATHSSL_TCGA", str(tmp_path / "tcga"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = tmp_path / "datasets"
    miniatures.bach(datasets / "bach", size=(64, 48))
    miniatures.crc(datasets / "crc", train=(2,) * 9, val=(1,) * 9)
    miniatures.mhist(datasets / "mhist")
    pcam(datasets / "pcam")
    consep(datasets / "consep")
    cases = tcga(tmp_path / "tcga", cases=6, size=256)
    rows = [(case, "wm"[k % 2], ("train", "val", "test")[k // 2]) for k, case in enumerate(cases)]
    write_labels(datasets / "tp53" / "labels.csv", rows, header="case,label,split")
    line = ["experiment=table1", "scale=tiny", "hydra/launcher=local", "++model.args.depth=1"]
    line += [o for o in small if o.startswith(("data.cohort", "cache_dir", "output_dir"))]
    line += ["robustness.stain=[]", "train.checkpoint_every=1", "leakage.patches=0"]
    line += [f"probe.{name}.{setting}" for name in ("eva", "eva_2024", "seg_conv") for setting in ("steps=5", "runs=2")]
    line += ["probe.seg_conv.checks=1", "probe.seg_conv.hidden=8", "probe.seg_conv.batch_size=8"]
    line += [f"task.{name}.image_px=112" for name in TASKS] + ["task.consep.crop_px=50"]
    line += [f"task.{name}.counts=null" for name in TASKS if name != "tp53"] + ["task.tp53.patches=2"]
    for rows in (
        [f"table1={','.join(TRAINED)}", "train.patches=48", "unsupervised.patches=192"],
        [
            "table1=random_vits16",
            "resolution.global_px=32",
            "resolution.local_px=16",
            "unsupervised.patches=384",
        ],
    ):
        done = train(*line, *rows, "-m", cwd=tmp_path)
    study = tmp_path / "outputs" / "table1"
    finished = {
        read_config(run)["report"]["row"] for run in find_runs(study) if read_status(run)["state"] == "finished"
    }
    kaiko = {"kaiko S/16", "kaiko S/8", "kaiko B/16", "kaiko B/8", "kaiko L/14"}
    assert finished == kaiko | {"DINO S/16 random init"}, done.stdout + done.stderr
    done = pathssl("report", study, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = [row for row in csv.DictReader((study / "report" / "published.csv").open()) if row["kind"] == "ours"]
    shown = {(row["protocol"], row["column"]) for row in ours}
    columns = {"BACH", "CRC", "MHIST", "PCam val", "PCam test", "TP53"}
    assert shown == {("eva_2024, seg_conv", c) for c in columns | {"CoNSeP"}} | {("eva", c) for c in columns}
    assert len(ours) == 6 * 13 and all(0 <= float(row["value"]) <= 1 for row in ours)
    assert all(row["sd_over_probe_runs"] for row in ours if row["column"] != "CoNSeP")
    assert all("images at 112 px, not 224" in row["unlike_published"] for row in ours)
    assert not any("268 / 132" in row["unlike_published"] for row in ours)  # BACH has all its files
    page = (study / "report" / "index.html").read_text()
    assert page.index("kaiko S/8") < page.index("kaiko B/16") and "0.832 ± 0.006*" in page and "Seen at" in page
    assert "| kaiko S/8 | published |" in done.stdout and "0.621?‡" in done.stdout
