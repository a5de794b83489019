"""The sbatch files, on a real SLURM of two virtual nodes (fake GPUs, so the runs are on CPUs)."""

import json
import sys
from pathlib import Path

import pytest
from slurm_cluster import ROOT, ended, ran, said, until

from pathssl.records import find_runs, read_status

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

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
    signal.signal(signal.SIGUSR2, lambda *_: sys.exit(75))
    Path(f"ready_{distributed.rank()}").touch()
    time.sleep(120)
distributed.stop()
"""


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
    log = repository / f"slurm-{job}.log"
    until(lambda: len(list(repository.glob("ready_*"))) == 2, 60, lambda: log.read_text())
    ran("scancel", "--signal=USR2", job, env=slurm)
    assert ended(job, slurm, repository) == "COMPLETED"
    assert [p["rank"] for p in said(repository, restarts=1)] == [0, 1]


def test_a_run_that_fails_is_not_started_again(slurm, repository):
    (repository / "train.py").write_text("import sys; print('what went wrong'); sys.exit(2)")
    job = sbatch(repository, slurm, "slurm/train.sbatch")
    assert ended(job, slurm, repository) == "FAILED"
    assert "what went wrong" in (repository / f"slurm-{job}.log").read_text()


def test_a_run_one_of_whose_processes_failed_is_not_started_again_though_others_were_killed(slurm, repository):
    (repository / "train.py").write_text(
        "import os, sys\nif os.environ['SLURM_PROCID'] == '0':\n    os.kill(os.getpid(), 9)\nsys.exit(201)\n"
    )
    job = sbatch(repository, slurm, "--ntasks-per-node=2", "--gpus-per-node=2", "slurm/train_8gpu.sbatch")
    assert ended(job, slurm, repository) == "FAILED"


def test_a_limit_that_is_shorter_than_its_warning_is_refused(slurm, repository):
    job = sbatch(repository, slurm, "--time=5", "slurm/train.sbatch")
    assert ended(job, slurm, repository) == "FAILED"
    assert "give --time=15 or more" in (repository / f"slurm-{job}.log").read_text()


def test_four_tasks_on_two_nodes_train_one_model_and_go_on_after_a_requeue(slurm, small, tmp_path, repository):
    (repository / "train.py").unlink()
    for name in ("train.py", "conf"):
        (repository / name).symlink_to(ROOT / name)
    arguments = ["--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1", "slurm/train_multinode.sbatch"]
    job = sbatch(repository, slurm, *arguments, *small, "train.device=cpu", "train.patches=1200")
    log = repository / f"slurm-{job}.log"
    until(
        lambda: any((read_status(run) or {}).get("step") for run in find_runs(tmp_path / "outputs" / "small")),
        120,
        lambda: log.read_text(),
    )
    ran("scancel", "--signal=USR2", job, env=slurm)
    assert ended(job, slurm, repository, timeout_s=200) == "COMPLETED", log.read_text()
    runs = find_runs(tmp_path / "outputs" / "small")
    status, environment = read_status(runs[0]), json.loads((runs[0] / "environment.json").read_text())
    assert (
        status["state"] == "finished"
        and status["job_id"] == job
        and environment["processes"] == 4
        and status["starts"] == 2
    )
    steps = [json.loads(line)["step"] for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 150 and steps == sorted(set(steps))
    assert log.read_text().count("4 processes") == 2, "two starts of one run"
