"""Our runs under W&B's own agent, whose server alone is played: it says what to start and what to stop."""

import os
import sys
import time
from pathlib import Path

import pytest
from programs import ROOT, train
from test_tracking import history, offline_records
from wandb.wandb_agent import Agent

from pathssl.launch.status import look_at
from pathssl.launch.sweep_file import write_sweep
from pathssl.records import find_runs, read_metrics, read_status

_LIMIT_S = 600  # what is waited for comes within a minute, where others do not want the cores too


@pytest.fixture
def an_agent(small, tmp_path, monkeypatch):
    """an_agent(*overrides) is an agent of the sweep of these overrides, in the repository, as on a machine without internet."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sw1")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def make(*overrides) -> Agent:
        line = [*small, "logger=wandb_offline", "teacher=m0.9,m0.99", *overrides]
        to = tmp_path / "sweep.yaml"
        settings = {"method": "grid", "metric": "train/loss", "stop_after": None, "processes": 1}
        agent = Agent(api=None, queue=None, sweep_id="sw1")
        agent._sweep_command = write_sweep(line, to=to, **settings)["sweep"]["command"]
        return agent

    yield make
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # which the agent leaves behind
        os.environ.pop(name, None)


def start(agent, run_id, **choices):
    args = {key: {"value": value} for key, value in choices.items()}
    response = agent._process_command({"type": "run", "run_id": run_id, "program": "train.py", "args": args})
    assert "exception" not in response, response
    return agent._run_processes[run_id]


def stepping(tmp_path):
    """The run's folder, once it has taken steps."""
    until = time.monotonic() + _LIMIT_S
    while True:
        for run in find_runs(tmp_path / "outputs" / "small"):
            if (read_status(run) or {}).get("step"):
                return run
        assert time.monotonic() < until
        time.sleep(0.1)


def exit_code(records) -> int:
    return next(record.exit.exit_code for record in records if record.HasField("exit"))


@pytest.mark.slow
def test_an_agents_run_is_our_run_and_one_drawn_again_logs_its_results_again(an_agent, small, tmp_path):
    assert train(*small, "teacher=m0.9", "seed=0", cwd=tmp_path).returncode == 0  # by -m, say, before there was a sweep
    (run,) = find_runs(tmp_path / "outputs" / "small")
    before = read_metrics(run)
    assert start(an_agent(), "first", teacher="m0.9").wait(_LIMIT_S) == 0
    assert find_runs(tmp_path / "outputs" / "small") == [run] and read_metrics(run) == before
    records = offline_records(run)
    assert history(records) == before and exit_code(records) == 0
    started = next(record.run for record in records if record.HasField("run"))
    assert (started.run_id, started.run_group, started.display_name) == ("first", "small", f"{run.parent.name}/seed0")


@pytest.mark.slow
def test_an_agents_stop_ends_the_run_and_nothing_takes_it_up_again(an_agent, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # the agent's job
    agent = an_agent("train.patches=40000", "train.log_every=0.001")
    process = start(agent, "poor", teacher="m0.9")
    run = stepping(tmp_path)
    agent._process_command({"type": "stop", "run_id": "poor"})
    assert process.wait(_LIMIT_S) == 0
    monkeypatch.delenv("SLURM_JOB_ID")
    assert look_at([run])[0].state == "preempted"  # not lost, which `retry` would start again
    records = offline_records(run)
    assert exit_code(records) == 0 and not any(record.HasField("preempting") for record in records)
