"""kaiko-eva itself evaluates an export of vit_nano on a miniature BACH by the config that it was handed, offline, and finds what we find.

For machines with an environment that has kaiko-eva 0.4.5; PATHSSL_EVA_PYTHON is its Python.
"""

import csv
import json
import os
import subprocess

import numpy as np
import pytest
import timm
import torch
from miniatures import tissue
from PIL import Image
from programs import pathssl, train

from pathssl.probes.datasets.bach import bach_task
from pathssl.probes.features import extract

PX = 32  # of the images already, so that neither resamples
STEPS, RUNS, LR = 200, 2, 0.01


@pytest.fixture
def python() -> str:
    if "PATHSSL_EVA_PYTHON" not in os.environ:
        pytest.skip("PATHSSL_EVA_PYTHON does not name the Python of an environment with kaiko-eva 0.4.5")
    return os.environ["PATHSSL_EVA_PYTHON"]


def hard_bach(root):
    """400 different images, of which three in ten show a class that is drawn."""
    rng = np.random.default_rng(0)
    for label, (name, first) in enumerate({"Benign": "b", "InSitu": "is", "Invasive": "iv", "Normal": "n"}.items()):
        folder = root / "ICIAR2018_BACH_Challenge" / "Photos" / name
        folder.mkdir(parents=True)
        for k in range(1, 101):
            shown = label if rng.random() < 0.7 else rng.integers(4)
            Image.fromarray(tissue((PX, PX), hue=int(shown), seed=100 * label + k)).save(folder / f"{first}{k:03d}.tif")
    return root


def load(path) -> torch.Tensor:
    """(1, D)"""
    (features_D,) = torch.load(path)
    return features_D[None]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_eva_runs_on_the_export_wherever_it_lies_and_finds_what_our_probe_finds(python, small, tmp_path):
    kept = [one for one in small if not one.startswith("model.args")]
    done = train(*kept, "unsupervised.patches=128", "probe=[knn]", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = tmp_path.glob("outputs/*/*/seed*")
    done = pathssl("export", run, "--to", "made/vit", "--eva", "bach", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "made" / "vit").rename(elsewhere / "vit")
    data = hard_bach(tmp_path / "bach")

    asked = {
        "N_RUNS": RUNS,
        "MAX_STEPS": STEPS,
        "LR_VALUE": LR,
        "RESIZE_DIM": PX,
        "N_DATA_WORKERS": 1,
        "ACCELERATOR": "cpu",
    }
    evas = {
        **os.environ,
        **{key: str(value) for key, value in asked.items()},
        "DATA_ROOT": str(data),
        "HF_HUB_OFFLINE": "1",
    }
    evas.pop("PYTHONPATH", None)
    command = [python, "-m", "eva", "predict_fit", "--config", "vit/eva/bach.yaml"]
    done = subprocess.run(command, cwd=elsewhere, env=evas, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]

    settings = {"counts": None, "scored": "val", "image_px": PX, "val_fraction": 0.2, "threads": 1, "cache_mib": 10}
    task = bach_task(path=str(data), **settings)
    features = elsewhere / "data" / "embeddings" / "vit" / "bach"
    listed = {row["origin"]: row for row in csv.DictReader((features / "manifest.csv").open())}
    names = [path.removeprefix("ICIAR2018_BACH_Challenge/Photos/") for path in task.ids_N]
    assert sorted(listed) == sorted(names)
    assert [listed[name]["split"] for name in names] == task.splits_N.tolist()
    assert [int(listed[name]["target"]) for name in names] == task.labels_N.tolist()
    evas_ND = torch.cat([load(features / listed[name]["embeddings"]) for name in names])
    exported = timm.create_model(f"local-dir:{elsewhere / 'vit'}", pretrained=True)
    ours_ND = extract(exported, task.batches(50), device="cpu", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    np.testing.assert_allclose(evas_ND.numpy(), ours_ND, rtol=0, atol=1e-5)
    (results,) = elsewhere.glob("logs/vit/bach/*/results.json")
    (metrics,) = json.loads(results.read_text())["metrics"]["val"]
    theirs = metrics["val/MulticlassAccuracy"]
    assert len(theirs["values"]) == RUNS

    line = [
        "model=vit_nano",
        "resolution.global_px=32",
        "task=[bach]",
        f"task.bach.path={data}",
        f"task.bach.image_px={PX}",
    ]
    line += [
        "probe=[eva]",
        f"probe.eva.steps={STEPS}",
        f"probe.eva.runs={RUNS}",
        f"probe.eva.lr={LR}",
        "robustness.stain=[]",
    ]
    done = pathssl("probe", elsewhere / "vit" / "model.safetensors", *line, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours = json.loads(done.stdout)
    assert 0.4 < theirs["mean"] < 0.95  # else agreement says little
    assert abs(ours["probe/bach/eva/val/balanced_accuracy"] - theirs["mean"]) < 0.03
