"""Kills are spread over the whole life of a run, and what they should lead to is known."""

import signal
import sys

import pytest

from pathssl.launch.lives import Kill, Life, Moment, Timeline

TIMELINE = Timeline(rows_s=[2.0, 2.5, 3.0], length_s=4.0, save_s=0.2)


def test_a_moment_counts_from_the_last_row_before_it():
    # Four parts of a life: up to the first row, two steps, and the end.
    assert Moment.at(TIMELINE, 0.125, None) == Moment(rows=0, delay_s=1.0, save_s=None)
    assert Moment.at(TIMELINE, 0.625, 0.5) == Moment(rows=2, delay_s=0.25, save_s=0.1)
    assert Moment.at(TIMELINE, 0.75, None) == Moment(rows=3, delay_s=0.0, save_s=None)


@pytest.mark.parametrize(
    ("name", "sent", "step", "exit_code", "processes", "right"),
    [
        ("SIGKILL", True, 5, -9, 1, True),
        ("SIGKILL", True, 5, 0, 1, False),
        ("SIGTERM", True, 5, 75, 1, True),
        ("SIGTERM", True, None, -15, 1, True),
        ("SIGTERM", True, 5, 0, 1, False),  # it did not stop
        ("SIGTERM", True, 11, 0, 1, True),  # nor could it
        ("SIGTERM", True, 5, 1, 1, False),
        ("SIGTERM", True, 5, 1, 2, True),  # torchrun's
        ("SIGTERM", False, 12, 0, 1, True),
        ("SIGKILL", False, 12, 1, 1, False),
    ],
)
def test_how_a_killed_process_should_end(name, sent, step, exit_code, processes, right):
    kill = Kill(name, sent, step, exit_code, in_save=False, saved=None, processes=processes)
    assert (kill.fault(12) is None) == right


WRITER = """
import sys, time, pathlib, json
from pathssl.records import append_metrics, write_status
run = pathlib.Path(sys.argv[1])
(run / "checkpoints").mkdir(exist_ok=True)
def status(state, step):
    write_status(run, state, step=step, total_steps=2, patches_seen=step, host=None, job_id=None, error=None)
time.sleep(0.2)
status("running", 0)
for step in range(3):
    time.sleep(0.3)
    append_metrics(run, {"step": step, "patches_seen": step})
    status("running", step)
    saving = run / "checkpoints" / ".step_1.tmp"
    saving.mkdir()
    time.sleep(0.3)
    saving.rmdir()
status("finished", 2)
time.sleep(0.2)
print("out"); print("err", file=sys.stderr)
"""


def test_a_life_is_watched_and_ended_where_it_should(tmp_path):
    line = [sys.executable, "-c", WRITER, str(tmp_path)]
    with Life(line, tmp_path, "watched") as life:
        timeline = life.watch()
        assert life.process.returncode == 0 and life.words() == "err"
    assert len(timeline.rows_s) == 3 and timeline.rows_s == sorted(timeline.rows_s)
    assert 0 < timeline.rows_s[0] < timeline.rows_s[-1] < timeline.length_s and timeline.save_s > 0.1

    # The rows of the first process do not count for the second, until it touches them.
    with Life(line, tmp_path, "killed") as life:
        assert not life.has_spoken() and life.rows() == 0
        kill = life.kill(signal.SIGKILL, Moment(rows=1, delay_s=0.05, save_s=0.05))
    assert (kill.signal, kill.sent, kill.exit_code, kill.in_save) == ("SIGKILL", True, -9, True)

    # What it left half-written is not taken for a save of the next, here of one that ends before it would be killed.
    with Life([sys.executable, "-c", ""], tmp_path, "late") as life:
        kill = life.kill(signal.SIGTERM, Moment(rows=0, delay_s=0.0, save_s=0.0))
    assert not kill.sent and kill.exit_code == 0 and not kill.in_save


def test_a_process_is_ended_with_its_block(tmp_path):
    with Life([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, "left") as life:
        pass
    assert life.process.returncode == -signal.SIGKILL
