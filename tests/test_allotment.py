import os
import sys

import pytest

from hydra_plugins.pathssl_launcher import default_launcher
from pathssl import allotment, lifecycle
from pathssl.allotment import seconds, slurm_job, time_is_over
from pathssl.errors import UserError
from pathssl.lifecycle import Failed, Sent, Status
from pathssl.records import read_status, write_status
from pathssl.training.interrupt import Interrupted


@pytest.mark.parametrize(
    ("time", "expected"), [("0:48", 48), ("30:00", 1800), ("2:00:01", 7201), ("1-02:00:00", 93600)]
)
def test_slurms_times_are_read(time, expected):
    assert seconds(time) == expected


def test_a_time_that_is_none_is_refused():
    with pytest.raises(ValueError):
        seconds("UNLIMITED")


def test_a_task_of_an_array_is_named_as_slurm_names_it(monkeypatch):
    for name, value in (("JOB_ID", "14"), ("ARRAY_JOB_ID", "12"), ("ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert slurm_job() == "12_3"


@pytest.mark.parametrize(
    ("said", "over"),
    [("23:55:00 1-00:00:00", True), ("1:00 1-00:00:00", False), ("1:00 UNLIMITED", False), ("", False)],
)
def test_a_warning_near_the_limit_is_a_timeout_and_another_is_a_preemption(tmp_path, monkeypatch, said, over):
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert time_is_over() is over
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not allotment.time_is_over()


def test_one_time_out_too_many_gives_a_run_up(tmp_path, monkeypatch):
    monkeypatch.setattr(lifecycle, "time_is_over", lambda: True)
    monkeypatch.setenv("PATHSSL_MAX_TIMEOUTS", "1")
    config = {"derived": {"total_steps": 10}, "batch": {"size": 1}}
    for error, state in ((Interrupted, "preempted"), (Failed, "failed")):
        with pytest.raises(error), Status(tmp_path, config):
            raise Interrupted("asked to stop")
        assert read_status(tmp_path)["state"] == state
    assert read_status(tmp_path)["timeouts"] == 2 and "max_num_timeout=1" in read_status(tmp_path)["error"]
    with pytest.raises(Interrupted), Status(tmp_path, config):  # who starts it again means it
        raise Interrupted("asked to stop")
    assert (read_status(tmp_path)["state"], read_status(tmp_path)["timeouts"]) == ("preempted", 1)


def test_what_is_refused_in_a_job_before_it_begins_is_told_in_the_runs_folder(tmp_path):
    numbers = {"step": 0, "total_steps": 10, "patches_seen": 0, "host": None, "job_id": "7_3", "error": None}
    with pytest.raises(UserError), Sent(tmp_path):
        raise UserError("There is nothing at data.path=/slides")
    assert read_status(tmp_path) is None  # nobody sent it: whoever typed it has read the sentence
    write_status(tmp_path, "queued", **numbers)
    with pytest.raises(KeyboardInterrupt), Sent(tmp_path):
        raise KeyboardInterrupt
    assert read_status(tmp_path)["state"] == "queued"
    with pytest.raises(UserError), Sent(tmp_path):
        raise UserError("There is nothing at data.path=/slides")
    told = read_status(tmp_path)
    assert (told["state"], told["error"]) == ("failed", "There is nothing at data.path=/slides")


def test_who_stops_at_once_is_not_told_that_it_was_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(lifecycle, "last_saved_step", lambda _: 4)
    config = {"derived": {"total_steps": 10}, "batch": {"size": 1}}
    for error, step in ((Interrupted, 9), (KeyboardInterrupt, 4)):
        with pytest.raises(error), Status(tmp_path, config) as status:
            status.running(9)
            raise error
        assert (read_status(tmp_path)["state"], read_status(tmp_path)["step"]) == ("preempted", step)


@pytest.mark.parametrize(("ping", "words", "option"), [(0, "-m", "slurm_1gpu"), (1, "-m", "local"), (0, "", "local")])
def test_many_runs_go_to_slurm_where_it_answers(tmp_path, monkeypatch, ping, words, option):
    for name, code in (("sbatch", 0), ("scontrol", ping)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", ["train.py", words])
    assert default_launcher() == option
