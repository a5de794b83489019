"""docs/first_study.md, walked."""

import os
import shutil
import subprocess
import sys

import pytest
from pages import ROOT, blocks, commands_of

SMALL = [
    "train.patches=64",
    "batch.size=8",
    "train.checkpoint_every=0.5",
    "unsupervised.patches=128",
    "data.foreground.cell_um=32",
]
SMALL_STUDY = """
train: {patches: 64, checkpoint_every: 0.5}
batch: {size: 8}
unsupervised: {patches: 128}
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of the repository, in which studies can be written."""
    for name in ("pathssl", "hydra_plugins", "conf", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / "pathssl" / name, symlinks=True)
    for name in ("train.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / "pathssl")
    return tmp_path / "pathssl"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_first_study_can_be_walked(checkout, cohort):
    """Line by line as it stands there, on the small cohort's slides and in few steps; what trains for hours on a GPU is left out."""
    page = ROOT / "docs" / "first_study.md"
    manifest = (cohort / "manifest.csv").read_text().replace("slides/", "")
    (checkout / "manifest.csv").write_text(manifest)

    def here(text: str) -> str:
        return text.replace("/slides", str(cohort / "slides")).replace("/labelled", str(cohort / "labelled"))

    (study,) = blocks(page, "yaml")
    study = here(study).replace("/model: vits16", "/model: vit_nano\n  - override /scale: tiny").replace("0,1,2", "0,1")
    study = study.replace("data:\n", "data:\n  foreground: {cell_um: 32.0}\n").replace(
        "folder:\n", "folder:\n    image_px: 64\n"
    )
    (checkout / "experiments" / "teacher_here.yaml").write_text(study + SMALL_STUDY)
    for line in [line for block in blocks(page, "") for line in block.splitlines() if line.startswith("python")]:
        if "hours on one GPU" in line or " doctor " in line:  # which has tests of its own
            continue
        (words,) = commands_of(here(line).replace("seed=0,1,2,3,4,5", "seed=0,1,2"))
        if "data=folder" in words:
            words += SMALL if "train.py" in words else SMALL[-1:]
            words += ["task.folder.image_px=64"] if "task=[folder]" in words else []
        settings = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=checkout, env=settings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, (
            f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    report = (checkout / "outputs" / "teacher_here" / "report" / "report.md").read_text()
    assert "teacher=m0.996" in report and "names no baseline" not in report and "has no run here" not in report
