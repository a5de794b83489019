"""The sbatch files, on a real SLURM of two virtual nodes (fake GPUs, so the runs are on CPUs)."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pathssl.records import find_runs, read_status

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT.parent / "shared" / "slurm-test-cluster"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]

# Says where it is among the processes of the run, and sums the ranks over all of them.
WHO = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from pathssl import distributed
seen = distributed.placement()
distributed.start("cpu")
total = int(distributed.sum_(torch.tensor(distributed.rank())))
said = {"rank": distributed.rank(), "world_size": distributed.world_size(), "local_rank": seen.local_rank, "sum": total,
        "node": os.environ["SLURMD_NODENAME"], "cpus": os.environ.get("SLURM_CPUS_PER_TASK"), "arguments": sys.argv[1:],
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT", 0))}
Path(f"said_{said['restarts']}_{distributed.rank()}.json").write_text(json.dumps(said))
if "wait" in sys.argv and not said["restarts"]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    Path(f"ready_{distributed.rank()}").touch()
    time.sleep(120)
distributed.stop()
"""


def ran(*command: str | Path, env: dict[str, str], timeout: int = 60, **more) -> str:
    done = subprocess.run(
        list(map(str, command)), env=env, capture_output=True, text=True, timeout=timeout, check=False, **more
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> dict[str, str]:
    """The environment of a client of the cluster, which is started for these tests and stopped after them."""
    if not CLUSTER.is_dir():
        pytest.skip("no test cluster beside the repository")
    if os.geteuid() != 0 or not (shutil.which("slurmctld") or shutil.which("apt-get")):
        pytest.skip("a test cluster needs root and Debian's SLURM")
    folder = tmp_path_factory.mktemp("slurm") / "cluster"
    settings = os.environ | {"SLURM_TEST_DIR": str(folder), "SLURM_TEST_DBD": "0", "SLURM_TEST_PORT": "27817"}
    installed = subprocess.run([CLUSTER / "install.sh"], env=settings, capture_output=True, timeout=300, check=False)
    if installed.returncode:
        pytest.skip("SLURM could not be installed")
    try:
        ran(CLUSTER / "start-slurm.sh", env=settings, timeout=120)
        yield settings | {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        subprocess.run([CLUSTER / "stop-slurm.sh"], env=settings, capture_output=True, timeout=120, check=False)


@pytest.fixture
def repository(tmp_path) -> Path:
    """A folder that looks like ours to an sbatch file, with another train.py."""
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # through a link Python would not find its packages
    python.chmod(0o755)
    (tmp_path / "train.py").write_text(WHO)
    return tmp_path


def sbatch(repository: Path, slurm: dict[str, str], *arguments: str) -> str:
    return ran("sbatch", "--parsable", "--mem=1G", "--cpus-per-task=2", *arguments, env=slurm, cwd=repository).strip()


def state(job: str, slurm: dict[str, str]) -> str:
    shown = ran("scontrol", "show", "job", job, "--oneliner", env=slurm)
    return next(word.split("=")[1] for word in shown.split() if word.startswith("JobState="))


def ended(job: str, slurm: dict[str, str], repository: Path, timeout_s: float = 90) -> str:
    end = time.monotonic() + timeout_s
    while (now := state(job, slurm)) in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED"):
        logs = "".join(path.read_text() for path in repository.glob("slurm-*.log"))
        assert time.monotonic() < end, f"still {now}: {logs}"
        time.sleep(0.5)
    return now


def said(repository: Path, restarts: int = 0) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(repository.glob(f"said_{restarts}_*.json"))]


@pytest.mark.parametrize(
    ("file", "arguments", "nodes"),
    [
        ("train.sbatch", [], [1]),
        ("train_8gpu.sbatch", ["--ntasks-per-node=3", "--gpus-per-node=3"], [3]),
        ("train_multinode.sbatch", ["--ntasks-per-node=2", "--gpus-per-node=2"], [2, 2]),
    ],
)
def test_each_task_knows_its_place_in_the_run(slurm, repository, file, arguments, nodes):
    job = sbatch(repository, slurm, *arguments, f"slurm/{file}", "model=vits16", "study=one two")
    assert ended(job, slurm, repository) == "COMPLETED"
    processes = said(repository)
    world = sum(nodes)
    assert [p["rank"] for p in processes] == list(range(world))
    assert {p["world_size"] for p in processes} == {world}
    assert {p["sum"] for p in processes} == {world * (world - 1) // 2}
    assert [p["local_rank"] for p in processes] == [rank for node in nodes for rank in range(node)]
    assert len({p["node"] for p in processes}) == len(nodes)
    assert {p["cpus"] for p in processes} == {"2"}
    assert all(p["arguments"] == ["model=vits16", "study=one two"] for p in processes)


def test_near_its_time_limit_a_job_stops_its_run_and_starts_it_again(slurm, repository):
    job = sbatch(repository, slurm, "--ntasks-per-node=1", "--gpus-per-node=1", "slurm/train_multinode.sbatch", "wait")
    end = time.monotonic() + 60
    while len(list(repository.glob("ready_*"))) < 2:
        assert time.monotonic() < end, (repository / f"slurm-{job}.log").read_text()
        time.sleep(0.2)
    ran("scancel", "--batch", "--signal=USR1", job, env=slurm)
    ran(CLUSTER / "release-requeued.sh", job, "60", env=slurm, timeout=90)
    assert ended(job, slurm, repository) == "COMPLETED"
    assert [p["rank"] for p in said(repository, restarts=1)] == [0, 1]


def test_a_run_that_fails_is_not_started_again(slurm, repository):
    (repository / "train.py").write_text("import sys; print('what went wrong'); sys.exit(2)")
    job = sbatch(repository, slurm, "slurm/train.sbatch")
    assert ended(job, slurm, repository) == "FAILED"
    assert "what went wrong" in (repository / f"slurm-{job}.log").read_text()


def test_two_tasks_train_one_model_and_go_on_after_a_requeue(slurm, small, tmp_path, repository):
    (repository / "train.py").unlink()
    for name in ("train.py", "conf"):
        (repository / name).symlink_to(ROOT / name)
    arguments = ["--ntasks-per-node=1", "--gpus-per-node=1", "slurm/train_multinode.sbatch"]
    job = sbatch(repository, slurm, *arguments, *small, "train.device=cpu", "train.patches=2400")
    log, end = repository / f"slurm-{job}.log", time.monotonic() + 120
    while not (runs := find_runs(tmp_path / "outputs" / "small")) or not read_status(runs[0])["step"]:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    ran("scancel", "--batch", "--signal=USR1", job, env=slurm)
    ran(CLUSTER / "release-requeued.sh", job, "60", env=slurm, timeout=90)
    assert ended(job, slurm, repository, timeout_s=200) == "COMPLETED", log.read_text()
    status, environment = read_status(runs[0]), json.loads((runs[0] / "environment.json").read_text())
    assert status["state"] == "finished" and status["job_id"] == job and environment["processes"] == 2
    steps = [json.loads(line)["step"] for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 300 and steps == sorted(steps)
    assert log.read_text().count("2 processes") == 2, "two starts of one run"
