"""slurm/wandb_agent.sbatch on a real SLURM: W&B's own agent, whose server alone is played, and our own runs."""

import shutil
import sys
import time
from contextlib import suppress

import pytest
from programs import ROOT
from slurm_cluster import ended, ran
from test_slurm import repository, sbatch  # noqa: F401  # a fixture

from pathssl.launch.status import look_at
from pathssl.launch.sweep_file import write_sweep
from pathssl.records import find_runs, read_metrics, read_status

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

# `wandb agent SWEEP`: hands out one run, and goes home when that has ended. (W&B hands out again what was marked as preempting.)
AGENT = """
import os, sys
import wandb, yaml
from wandb.apis.public import sweeps
from wandb.wandb_agent import run_agent
config = open(sys.argv[2]).read()
run = {"type": "run", "run_id": "only1", "program": "train.py", "args": {"teacher": {"value": "m0.9"}}}
answers = [[run]]
wandb.Api = lambda: None
sweeps._sweep_with_runs = lambda *_: {"config": config}
sweeps._register_agent = lambda *_, **__: {"id": "agent"}
sweeps._agent_heartbeat = lambda _api, _id, _metrics, runs: answers.pop() if answers else [] if runs else [{"type": "exit"}]
os.environ["WANDB_AGENT_REPORT_INTERVAL"] = "1"
run_agent("sw1")
"""


@pytest.fixture
def swept(repository, small, tmp_path):  # noqa: F811
    """The repository with a sweep of a long run and a short one's teacher; gives the sweep's file."""
    ours = str(ROOT / "train.py")
    (repository / "train.py").write_text(
        f"import runpy, sys\nsys.argv[0] = {ours!r}\nrunpy.run_path({ours!r}, run_name='__main__')\n"
    )
    (repository / "agent.py").write_text(AGENT)
    program = repository / ".venv" / "bin" / "wandb"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} agent.py "$@"\n')
    program.chmod(0o755)
    line = [
        *small,
        "teacher=m0.9,m0.99",
        "logger=wandb_offline",
        "train.device=cpu",
        "train.patches=4000",
        "train.log_every=0.001",
    ]
    to = tmp_path / "sweep.yaml"
    write_sweep(line, method="grid", metric="train/loss", stop_after=None, processes=1, to=to)
    return to


def test_an_agent_that_slurm_warns_saves_its_run_and_goes_on_with_it(slurm, repository, swept, tmp_path, monkeypatch):  # noqa: F811
    environment = {key: value for key, value in slurm.items() if key != "WANDB_MODE"} | {"PYTHONPATH": str(ROOT)}
    job = sbatch(repository, environment, "--array=0", "slurm/wandb_agent.sbatch", str(swept))
    until = time.monotonic() + 360
    while not any((read_status(run) or {}).get("step") for run in find_runs(tmp_path / "outputs" / "small")):
        logs = "".join(path.read_text() for path in repository.glob("slurm-*.log"))
        assert time.monotonic() < until, logs
        time.sleep(0.2)
    (run,) = find_runs(tmp_path / "outputs" / "small")
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    assert (look_at([run])[0].state, read_status(run)["job_id"]) == ("running", f"{job}_0")
    # As preemption does: the script, the agent and the run hear it. (USR1, before the time limit, is heard by the same trap.)
    ran("scancel", "--full", "--signal=TERM", f"{job}_0", env=slurm)
    while read_status(run)["state"] != "preempted":
        assert time.monotonic() < until, "".join(path.read_text() for path in repository.glob("slurm-*.log"))
        time.sleep(0.2)
    stopped_at = read_status(run)["step"]
    assert 0 < stopped_at < 500
    while "PENDING" not in ran("squeue", "-h", "-r", "-j", job, "-o", "%T", env=slurm):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert look_at([run])[0].state == "queued"
    time.sleep(2)  # a restart in the second of the requeue is refused
    with suppress(AssertionError):  # it has begun already
        ran("scontrol", "update", f"JobId={job}_0", "StartTime=now", env=slurm)
    assert ended(f"{job}_0", slurm, repository) == "COMPLETED"
    steps = [row["step"] for row in read_metrics(run)]
    assert read_status(run)["state"] == "finished" and steps == sorted(set(steps)) and steps[-1] == 500
    assert read_status(run)["starts"] == 2 and (run / "wandb_id.txt").read_text() == "only1"
    logs = "".join(path.read_text() for path in repository.glob("slurm-*.log"))
    assert shutil.which("pgrep") and "USR2" in logs, logs
