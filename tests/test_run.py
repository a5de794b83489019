"""One run as a user starts it."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from programs import train, train_afresh

from pathssl.files import locked_or_refused
from pathssl.models.encoder import create_encoder
from pathssl.models.weights import load_weights
from pathssl.records import read_metrics, read_status


def the_run(tmp_path) -> Path:
    (config,) = (tmp_path / "outputs").glob("*/*/seed*/config.yaml")
    return config.parent


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


@pytest.fixture
def finished(small, tmp_path):
    done = train(*small, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"What it came to: python -m pathssl report {tmp_path}/outputs/small")
    return the_run(tmp_path)


def test_few_shots_slides_stains_and_sites_stand_among_the_metrics(small, tmp_path):
    slides = [o.replace("task.synthetic.", "task.synthetic_cases.") for o in small if o.startswith("task.synthetic.")]
    slides += ["task.synthetic_cases.slides_per_case=2", "task.synthetic_cases.tumour_patches=1"]
    slides += ["probe.slide_abmil.epochs=3", "task=[synthetic,synthetic_cases]", "probe=[linear,few_shot,slide_abmil]"]
    done = train(*small, *slides, "robustness.stain=[0.05,0.2]", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    row = read_metrics(the_run(tmp_path))[-1]
    for sigma in ("0.05", "0.2"):
        assert row[f"unsupervised/stain_distance_{sigma}"] > 0
        assert 0 <= row[f"probe/synthetic/linear/test/stain_flips_{sigma}"] <= 1
        assert 0 <= row[f"probe/synthetic_cases/slide_abmil/test/stain_flips_{sigma}"] <= 1
    for split in ("val", "test"):
        assert 0 < row[f"probe/synthetic/few_shot/{split}/4shot_balanced_accuracy"] < 1
        assert 0 <= row[f"probe/synthetic_cases/slide_abmil/{split}/balanced_accuracy"] <= 1
        assert f"probe/synthetic/slide_abmil/{split}/balanced_accuracy" not in row
    assert not any("stain_" in key.split("/")[-2] for key in row if key.startswith("probe/"))
    # One case is held out, so that the site cannot be told from another's.
    assert "unsupervised/site_chance" not in row and "Whether features tell the site is left out" in done.stdout


def test_a_run_leaves_the_folder_of_the_design(finished, small, tmp_path):
    present = files(finished)
    assert {"config.yaml", "environment.json", "status.json", "metrics.jsonl", "data.json", "log.txt"} <= present
    assert {"pictures/patches.png", "pictures/views.png"} <= present
    for step in (0, 4, 8):
        assert {f"probes/step_{step:08d}/synthetic.json", f"probes/step_{step:08d}/synthetic.npz"} <= present
        assert f"checkpoints/step_{step:08d}/teacher.safetensors" in present
    status = read_status(finished)
    assert (status["state"], status["step"], status["total_steps"], status["patches_seen"]) == ("finished", 8, 8, 64)
    rows = read_metrics(finished)
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert all(("probe/synthetic/linear/test/balanced_accuracy" in row) == (row["step"] % 4 == 0) for row in rows)
    assert "probe/synthetic/linear_colour_histogram/test/balanced_accuracy" in rows[0]
    assert {"unsupervised/rankme", "unsupervised/odcorr", "train/loss", "train/lr", "train/data_wait"} <= set(rows[-1])
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["derived"]["total_steps"] == 8
    assert config["derived"]["lr"] == pytest.approx(config["optim"]["base_lr"] * 8 / config["batch"]["reference"])
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0] and "train.py" in environment["command"]

    # The teacher's file loads strictly into the model that the config names, and is what was probed last.
    encoder = create_encoder(config["model"]["name"], config["model"]["args"], 0.0)
    loaded = load_weights(encoder, finished / "checkpoints/step_00000008/teacher.safetensors", strict=True)
    assert len(loaded.loaded) == loaded.total > 10 and not loaded.left_aside

    # The same command finds the run finished and leaves it alone.
    before = (finished / "metrics.jsonl").stat().st_mtime_ns
    again = train(*small, cwd=tmp_path)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert again.stdout.rstrip().endswith(f"python -m pathssl report {tmp_path}/outputs/small")
    assert (finished / "metrics.jsonl").stat().st_mtime_ns == before

    # Another config for the same folder is refused, and changes nothing. (`probe` is bookkeeping: it names no arm.)
    refused = train(*small, "probe=[knn]", cwd=tmp_path)
    assert (
        refused.returncode == 2
        and "holds a run of another config" in refused.stderr
        and "probe.linear" in refused.stderr
    )
    assert "Traceback" not in refused.stderr and files(finished) == present

    # Nothing but the outputs was written where the command was typed.
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}


@pytest.mark.parametrize(
    ("overrides", "code", "says"),
    [
        (["teacher.momentun=0.9"], 1, "Did you mean teacher.momentum"),
        (["model=vits17"], 1, "vits16"),
        (["model.name=vit_smal_patch16_224"], 2, "did you mean vit_small_patch16_224"),
        (["model.args.embed_dims=3"], 1, "embed_dims"),
        (["data=folder"], 2, "data.path must be given"),
        (["data=folder", "data.path={tmp}"], 2, "No slides found in"),
        (["data=folder", "data.path={tmp}/nowhere"], 2, "data.path="),
        (["data=tcga_20x", "data.path={tmp}/tcga"], 2, "gdc-client"),
        (["task=[folder]", "task.folder.path={tmp}/labelled"], 2, "b.png"),
        (["train.device=tpu"], 2, "auto, cpu, cuda"),
        (["train.patches=3"], 2, "at least one batch"),
        (["batch.lr_rule=cubic"], 2, "linear, sqrt, none"),
        (["train.patches=1e6"], 2, "train.patches=1000000.0 must be a whole number"),
        (["seed=-1"], 2, "seed=-1"),
        (["schedule.warmup=10"], 2, "schedule.warmup=10 is a fraction"),
        (["resolution.local_px=20"], 2, "resolution.local_px=20 is not a multiple of the model's patch size, 8 px"),
        (["loader.workrs=2"], 1, "Did you mean loader.workers"),
        (["init=file", "init.path={tmp}/no.safetensors"], 2, "init.path="),
    ],
)
def test_wrong_input_is_answered_in_a_sentence_and_leaves_nothing(overrides, code, says, small, tmp_path):
    (tmp_path / "labelled").mkdir()
    for name in ("a.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "labelled" / name)
    (tmp_path / "labelled" / "labels.csv").write_text("path,label,split\na.png,x,train\nb.png,y,train\nc.png,x,test\n")
    before = files(tmp_path)
    other_data = any(word in o for o in overrides for word in ("data=folder", "data=tcga", "[folder]"))
    kept = [o for o in small if not (o.startswith("cache_dir") or (other_data and ".cohort." in o))]
    kept += ["model=vit_nano"] * other_data  # whose size `small` changes
    start = train_afresh if code == 1 else train  # Hydra's own complaints, which come before anything is imported
    done = start(*kept, *(o.format(tmp=tmp_path) for o in overrides), f"cache_dir={tmp_path / 'cache'}", cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr and "Traceback" not in done.stdout + done.stderr
    assert files(tmp_path) == before


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with locked_or_refused(tmp_path / ".lock", "busy"):
        code = "import sys; from pathssl.files import locked_or_refused; locked_or_refused(sys.argv[1], 'busy').__enter__()"
        other = [sys.executable, "-c", code, str(tmp_path / ".lock")]
        done = subprocess.run(other, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "UserError: busy" in done.stderr
    assert subprocess.run(other, check=False).returncode == 0  # free again


def test_a_failing_run_tells_in_its_status_and_its_log(small, tmp_path):
    done = train(*small, "optim.base_lr=1e30", "schedule.warmup=0.0", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    run = the_run(tmp_path)
    status = read_status(run)
    assert status["state"] == "failed" and "FloatingPointError: The loss of step 2 is not" in status["error"]
    assert (run / "capsules" / "step_00000002" / "capsule.json").is_file() and "capsules/step_00000002" in done.stderr
    assert "FloatingPointError" in (run / "log.txt").read_text()


def test_help_takes_less_than_three_seconds_of_a_processor(tmp_path):
    def used_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before_s = used_s()
    done = train_afresh("--help", cwd=tmp_path)
    assert used_s() - before_s < 3 and done.returncode == 0 and "magnification" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_slide_that_is_spoilt_after_the_start_is_named_when_the_run_is_to_go_on(cohort, tmp_path):
    slides = tmp_path / "slides"
    shutil.copytree(cohort / "slides", slides)
    tiny = [
        "data=folder",
        f"data.path={slides}",
        "scale=tiny",
        "train.patches=96",
        "unsupervised.patches=64",
        "study=spoilt",
    ]
    tiny += ["resolution.global_px=32", "resolution.local_px=16", "resolution.patch_px=40", "task=[]"]
    tiny += ["data.foreground.cell_um=32", "data.held_out.mpp=[1.0]", "augmentation.local_crops=1"]
    tiny += ["model.args.embed_dim=32", "model.args.depth=1", "model.args.num_heads=2", "objective.out_dim=64"]
    assert train(*tiny, cwd=tmp_path).returncode == 0
    victim = sorted(slides.glob("*.tif"))[1]
    content = victim.read_bytes()
    victim.write_bytes(content[:5000])
    done = train(*tiny, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "began with 4 slides, and 3 can be used now" in done.stderr and victim.name in done.stderr
    victim.write_bytes(content)
    done = train(*tiny, cwd=tmp_path)
    assert done.returncode == 0 and "nothing to do" in done.stdout
