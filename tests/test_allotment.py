import pytest

from pathssl import allotment
from pathssl.allotment import seconds, slurm_job, time_is_over


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
