"""What a process that probes beside training has to do."""

import json

import pytest

from pathssl.launch.status import look_at
from pathssl.probe_process import unprobed
from pathssl.records import write_probe, write_status


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
