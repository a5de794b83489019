"""`-m` on a machine without a cluster."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from pathssl.launch.local import visible_gpus
from pathssl.records import find_runs, read_status

ROOT = Path(__file__).resolve().parents[2]


def launch(*overrides, cwd):
    command = [sys.executable, str(ROOT / "train.py"), *map(str, overrides), "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500, check=False, env=environment)


def test_a_grid_runs_and_the_report_compares_its_arms(small, tmp_path):
    done = launch(*small, "teacher=m0.9,m0.99", "seed=0,1", "hydra.launcher.parallel=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = find_runs(tmp_path / "outputs" / "small")
    assert len(runs) == 4 and {run.name for run in runs} == {"seed0", "seed1"}
    assert {read_status(run)["state"] for run in runs} == {"finished"}
    assert len({run.parent.name for run in runs}) == 2
    command = [sys.executable, "-m", "pathssl", "report", str(tmp_path / "outputs" / "small")]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path, capture_output=True)
    page = (tmp_path / "outputs/small/report/index.html").read_text()
    assert "data:image/" in page and "http://" not in page.replace("http://www.w3.org", "")
    with open(tmp_path / "outputs/small/report/runs.csv") as file:
        assert len(list(csv.reader(file))) > 4


def test_a_failing_run_leaves_the_others_alone_and_is_told(small, tmp_path):
    done = launch(*small, "optim.base_lr=1e30,1e-3", "schedule.warmup=0.0", cwd=tmp_path)
    assert done.returncode != 0 and "failed (exit code 1)" in done.stdout
    states = {read_status(run)["state"] for run in find_runs(tmp_path / "outputs" / "small")}
    assert states == {"finished", "failed"}


def test_gpus_are_those_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
