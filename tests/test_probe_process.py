"""What a process that probes beside training has to do, and what is said where it may not get far."""

import json
import sys
import time

import pytest
import torch

from pathssl.distributed import free_gpu
from pathssl.launch.status import look_at
from pathssl.probe_process import say_where, start_probes, unprobed
from pathssl.probe_records import write_probe
from pathssl.records import write_status


@pytest.fixture
def finished(tmp_path):
    """A finished run of 8 steps, whose checkpoints at 0, 4 and 8 another process probes."""
    run = tmp_path / "arm" / "seed0"
    for step in (0, 4, 8):
        (run / "checkpoints" / f"step_{step:08d}").mkdir(parents=True)
    config = {"train": {"checkpoint_every": 0.5}, "derived": {"total_steps": 8}, "probe": {"where": "job"}}
    (run / "config.yaml").write_text(json.dumps(config))
    place = {"step": 8, "total_steps": 8, "patches_seen": 64}
    write_status(run, "finished", **place, host=None, job_id=None, error=None)
    return run


def test_checkpoints_are_waiting_and_what_is_saved_between_them_is_not(finished):
    (finished / "checkpoints" / "step_00000005").mkdir()  # after 15 minutes, or a signal
    assert unprobed(finished) == [0, 4, 8]
    write_probe(finished, step=4, patches_seen=32, task="unsupervised", results={})
    assert unprobed(finished) == [0, 8]
    assert look_at([finished])[0].why.startswith("2 checkpoints not probed yet")


def test_what_has_no_job_and_no_gpu_of_its_own_is_told_at_the_start(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    say_where(tmp_path, None)
    assert not caplog.records
    say_where(tmp_path, "")
    assert "the CPU" in caplog.messages.pop() and "probe.where=inline" in caplog.text
    caplog.clear()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    say_where(tmp_path, "1")
    assert f"python -m pathssl probe {tmp_path} --late" in caplog.messages.pop()
    caplog.clear()
    (tmp_path / "submission.json").write_text('{"job_id": "7"}')
    say_where(tmp_path, "")  # jobs of their own
    assert not caplog.records


@pytest.mark.parametrize(
    ("visible", "names", "free"),
    [(1, None, ""), (4, None, "3"), (2, "5,GPU-8f", "GPU-8f"), (1, "5", "")],
)
def test_probes_have_a_gpu_that_training_has_not(visible, names, free, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if names:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    assert free_gpu(torch.device("cuda", 0)) == free
    assert free_gpu(torch.device("cpu")) is None


@pytest.mark.parametrize(("sent", "seen"), [(False, "3"), (True, "0")])
def test_a_process_that_probes_has_its_gpu_and_one_that_sends_a_job_is_awaited_at_the_end(
    sent, seen, tmp_path, monkeypatch
):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 0.2\necho $CUDA_VISIBLE_DEVICES $*\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    if sent:
        (tmp_path / "submission.json").write_text('{"job_id": "7"}')
    start_probes(tmp_path, gpu="3", last=True)
    said, until = tmp_path / "probes.log", time.monotonic() + 30
    assert bool(said.read_text()) == sent
    while not said.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert said.read_text() == f"{seen} -m pathssl probe {tmp_path} --late\n"
