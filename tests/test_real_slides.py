"""Real slides and real labelled patches, where they are at hand: beside the repository, in ../shared/data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pathssl.records import find_runs, read_metrics

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
TCGA = "tcga-cr-7395-01a-01-ts1.svs"

pytestmark = pytest.mark.skipif(not (DATA / "slides").is_dir(), reason="no real slides in ../shared/data")


def train(tmp_path, *overrides, task=True):
    command = [sys.executable, str(ROOT / "train.py"), "model=vit_nano", "data=folder", f"data.path={DATA / 'slides'}"]
    tiny = [
        "scale=tiny",
        "train.patches=96",
        "train.checkpoint_every=1",
        "unsupervised.patches=128",
        "magnification=20x",
    ]
    probed = ["task=[folder]", f"task.folder.path={DATA / 'labelled_lc25000_lung'}", "task.folder.image_px=64"]
    done = subprocess.run(
        [*command, *tiny, *(probed if task else ["task=[]"]), *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "scratch")
    return json.loads((run / "data.json").read_text()), read_metrics(run)


@pytest.mark.slow
def test_a_run_on_real_slides_probes_real_patches_beside_a_colour_null(tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"slide,mpp\n{TCGA},0.5\n")
    data, rows = train(tmp_path, f"data.manifest={manifest}")
    assert data["quarantined"] == [] and data["usable_slides"]["0.5"] >= 2
    key = "probe/folder/linear{}/test/balanced_accuracy"
    assert [key.format("") in row for row in rows if "unsupervised/rankme" in row] == [True, True]
    assert rows[0][key.format("_colour_histogram")] == pytest.approx(
        0.89, abs=0.03
    )  # colour alone nearly solves this set


@pytest.mark.slow
def test_without_the_manifest_the_slide_that_has_no_mpp_is_left_out_and_the_rest_train(tmp_path):
    data, rows = train(tmp_path, task=False)
    assert [path for path, _ in data["quarantined"]] == [TCGA] and "no mpp" in data["quarantined"][0][1]
    assert rows[-1]["step"] == 2 and "train/loss" in rows[-1]
