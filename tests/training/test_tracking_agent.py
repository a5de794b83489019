"""A run of a W&B sweep's agent: what its own client writes, offline, with the environment that an agent gives."""

import signal

import pytest
import wandb
from test_tracking import ROWS, SETTINGS, flat_config, history, offline_records
from wandb.sdk.lib.config_util import save_config_file_from_dict

from pathssl.records import append_metrics
from pathssl.training.interrupt import Interrupted
from pathssl.training.tracking import Tracker

CHOICES = {"teacher": "m0.99", "seed": 0}
CONFIG = {"teacher": {"momentum": 0.99}, "seed": 0}


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """The environment of an agent's run, whose sweep has locked the teacher; the run's folder, whose W&B run was another before."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    save_config_file_from_dict(str(tmp_path / "swept.yaml"), {"teacher": {"value": "m0.99"}})
    for key, value in {"SWEEP_ID": "sw1", "RUN_ID": "given1", "SWEEP_PARAM_PATH": tmp_path / "swept.yaml"}.items():
        monkeypatch.setenv(f"WANDB_{key}", str(value))
    run = tmp_path / "study" / "teacher=m0.99" / "seed0"
    run.mkdir(parents=True)
    wandb.teardown()  # it reads the environment once in a process
    yield run
    wandb.teardown()


def a_tracker(run):
    return Tracker(run, wandb=SETTINGS, config=CONFIG, choices=CHOICES, name="teacher=m0.99/seed0", group="study")


def stopped_by(number):
    stop = Interrupted("stopped")
    stop.signal = number
    return stop


def test_the_run_has_the_agents_id_and_the_swept_keys_do_not_collide(agent, capfd):
    tracker = a_tracker(agent)
    tracker.close()
    records = offline_records(agent)
    started = next(record.run for record in records if record.HasField("run"))
    assert (started.run_id, started.run_group, started.display_name) == ("given1", "study", "teacher=m0.99/seed0")
    assert started.sweep_id == "sw1" and (agent / "wandb_id.txt").read_text() == "given1"
    config = flat_config(records)
    assert (config["teacher"], config["seed"], config["config"]) == ("m0.99", 0, CONFIG)
    said = capfd.readouterr()
    assert "locked" not in said.out + said.err


def test_what_was_trained_before_is_logged_again_up_to_where_the_run_goes_on(agent):
    (agent / "wandb_id.txt").write_text("another")
    for row in [*ROWS, {"step": 20, "patches_seen": 1280, "train/loss": 6.0}]:
        append_metrics(agent, row)
    tracker = a_tracker(agent)
    tracker.log_again(last_step=10)
    tracker.close()
    assert history(offline_records(agent)) == ROWS
    # The same W&B run, resumed, has them already.
    tracker = a_tracker(agent)
    assert not tracker._mirror.is_new
    tracker.close()


@pytest.mark.parametrize(
    ("error", "code", "goes_on"),
    [
        (stopped_by(signal.SIGTERM), 0, False),  # the agent's, for good
        (stopped_by(signal.SIGUSR2), 75, True),  # SLURM's warning
        (stopped_by(signal.SIGINT), 75, True),
        (RuntimeError("broken"), 1, False),
    ],
    ids=["agent", "warning", "ctrl-c", "failure"],
)
def test_a_stop_by_the_agent_is_an_end_and_others_are_not(error, code, goes_on, agent):
    a_tracker(agent).close(error)
    records = offline_records(agent)
    assert next(record.exit.exit_code for record in records if record.HasField("exit")) == code
    assert any(record.HasField("preempting") for record in records) == goes_on
