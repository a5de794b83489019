"""`-m` on a machine without a cluster."""

import csv
import json
import os
import re
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from pathssl.errors import UserError
from pathssl.launch import local
from pathssl.launch.local import command, run_queue, visible_gpus
from pathssl.records import find_runs, read_status

ROOT = Path(__file__).resolve().parents[2]


def launch(*overrides, cwd):
    command = [sys.executable, str(ROOT / "train.py"), *map(str, overrides), "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500, check=False, env=environment)


@pytest.mark.slow
def test_a_grid_runs_and_the_report_compares_its_arms(small, tmp_path):
    done = launch(*small, "teacher=m0.9,m0.99", "seed=0,1", "hydra.launcher.parallel=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = find_runs(tmp_path / "outputs" / "small")
    assert len(runs) == 4 and {run.name for run in runs} == {"seed0", "seed1"}
    assert {read_status(run)["state"] for run in runs} == {"finished"}
    assert len({run.parent.name for run in runs}) == 2
    told = done.stdout.splitlines()[-1].partition(": ")[2]
    assert told == f"python -m pathssl report {tmp_path}/outputs/small"
    command = [sys.executable, *told.split()[1:]]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path, capture_output=True)
    page = (tmp_path / "outputs/small/report/index.html").read_text()
    assert "data:image/" in page and "http://" not in page.replace("http://www.w3.org", "")
    with open(tmp_path / "outputs/small/report/runs.csv") as file:
        assert len(list(csv.reader(file))) > 4


@pytest.mark.slow
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


@pytest.mark.slow
def test_two_processes_train_one_run(small, tmp_path):
    done = launch(*small, "train.device=cpu", "hydra.launcher.processes=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "small")
    assert read_status(run)["state"] == "finished"
    assert json.loads((run / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_what_a_run_of_several_processes_failed_of_is_told(small, tmp_path):
    done = launch(*small, "train.device=cpu", "batch.size=9", "hydra.launcher.processes=2", cwd=tmp_path)
    assert done.returncode != 0
    assert "batch.size=9 cannot be shared equally by 2 processes" in done.stdout
    assert "torch/distributed" not in done.stdout and "ChildFailedError" not in done.stdout


def test_one_run_is_started_by_python_or_torchrun():
    assert command(["seed=1"], processes=1) == [sys.executable, str(ROOT / "train.py"), "seed=1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=8"]
    line = command(["seed=1"], processes=8)
    assert line[: len(torchrun)] == torchrun and line[-2:] == [str(ROOT / "train.py"), "seed=1"]


# Says that it started and with which GPUs, waits until as many runs as may run together have, and for any that should not.
SAY = """
import os, sys, time
path, together, gpus = sys.argv[1], int(sys.argv[2]), os.environ.get("CUDA_VISIBLE_DEVICES", "-")
with open(path, "a") as file:
    print("start", gpus, file=file, flush=True)
    end = time.monotonic() + 30
    while open(path).read().count("start") < together and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    print("end", gpus, file=file, flush=True)
"""


@pytest.fixture
def queued(monkeypatch, tmp_path):
    """Queues so many runs that only say which GPUs they see, and gives what they said; `together` of them must run at once, and no more."""
    said = tmp_path / "said"
    monkeypatch.setattr(local, "_POLL_S", 0.05)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def queue(runs: int, together: int, **settings) -> list[str]:
        monkeypatch.setattr(local, "command", lambda *_: [sys.executable, "-c", SAY, str(said), str(together)])
        settings = {"parallel": None, "processes": 1, "gpus": [], "threads": 1} | settings
        assert run_queue([[f"seed={k}"] for k in range(runs)], study_folder=str(tmp_path), **settings) == [0] * runs
        lines = said.read_text().splitlines()
        assert max(accumulate(1 if line.startswith("start") else -1 for line in lines)) == together
        return [line.split()[1] for line in lines if line.startswith("start")]

    return queue


def test_gpus_are_dealt_out_one_to_a_process(queued):
    gpus = queued(3, together=2, processes=2, gpus=["0", "1", "4", "5", "6"])
    assert len(gpus) == 3 and set(gpus[:2]) == {"0,1", "4,5"} and gpus[2] in gpus[:2]


def test_each_run_has_a_gpu_of_its_own(queued):
    assert sorted(queued(3, together=3, gpus=["0", "1", "4"])) == ["0", "1", "4"]


def test_what_is_named_says_how_many_run_together(queued):
    assert queued(2, together=1, parallel=1, gpus=["0", "1"]) == ["0", "0"]


def test_without_gpus_the_cores_say_how_many_run_together(queued, monkeypatch):
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda _: set(range(8)))
    assert queued(3, together=2, processes=2, threads=2) == ["-"] * 3


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"processes": 4, "gpus": ["0", "1"]}, "needs as many GPUs, and there are 2 here"),
        ({"processes": 0}, "hydra.launcher.processes=0 must be a whole number"),
        ({"parallel": 1.5}, "hydra.launcher.parallel=1.5 must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused(settings, complaint, tmp_path):
    settings = {"parallel": None, "processes": 1, "gpus": [], "threads": 1} | settings
    with pytest.raises(UserError, match=re.escape(complaint)):
        run_queue([["seed=0"]], study_folder=str(tmp_path), **settings)


def test_a_refused_queue_says_why_in_a_sentence(tmp_path):
    done = launch("hydra.launcher.processes=0", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "hydra.launcher.processes=0 must be" in done.stderr


@pytest.mark.parametrize(("option", "processes"), [("local", 1), ("local_1gpu", 1), ("local_8gpu", 8)])
def test_options_of_the_launcher(option, processes):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", [f"hydra/launcher={option}"], return_hydra_config=True)
    launcher = instantiate(config.hydra.launcher)
    assert launcher.options == {"parallel": None, "processes": processes}
