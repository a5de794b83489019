"""`python -m pathssl status`: what a run wrote last, and whether it is still there."""

import json
import os
import platform
import signal
import stat
import subprocess
import sys
import time

import pytest
import yaml
from programs import ROOT, pathssl

from pathssl.files import locked
from pathssl.launch import jobs
from pathssl.launch.status import all_runs, look_at, under_way
from pathssl.probe_records import write_probe
from pathssl.records import append_metrics, read_status, write_status

HERE = platform.node()
ACCURACY = "probe/synthetic/linear/test/balanced_accuracy"


def a_run(folder, state, *, step=40, host=HERE, job_id=None, error=None, submitted=None, **more):
    """A run of 100 steps of 8 patches, checkpoints at 0, 25, ... and lines that say 16 patches/s and 3 s a probe."""
    folder.mkdir(parents=True)
    config = {"study": "s", "seed": 0, "batch": {"size": 8}, "train": {"checkpoint_every": 0.25}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if submitted:
        (folder / "submission.json").write_text(json.dumps({"job_id": submitted, "overrides": []}))
    numbers = {"step": step, "total_steps": 100, "patches_seen": 8 * step}
    write_status(folder, state, **numbers, host=host, job_id=job_id, error=error, **more)
    for k in range(0, step + 1, 5):
        row = {"step": k, "patches_seen": 8 * k} | ({"train/patches_per_s": 16.0} if k else {})
        append_metrics(folder, row | ({"probe_time_s": 3.0, ACCURACY: 0.5 + k / 1000} if k % 25 == 0 else {}))
    return folder


def the_look(run):
    (look,) = look_at([run])
    return look


def test_a_run_whose_process_lives_is_running_and_says_when_it_ends(tmp_path):
    run = a_run(tmp_path / "arm" / "seed0", "running", starts=3)
    with locked(run / ".lock"):
        look = the_look(run)
    assert (look.state, look.step, look.total_steps, look.requeues) == ("running", 40, 100, 2)
    assert look.patches_per_s == 16.0 and look.probe == (ACCURACY, pytest.approx(0.525))
    assert look.eta_s == pytest.approx(60 * 8 / 16 + 3 * 3.0)  # the checkpoints of 50, 75 and 100


def test_a_run_whose_process_is_gone_without_a_word_is_lost(tmp_path):
    look = the_look(a_run(tmp_path / "arm" / "seed0", "running"))
    assert look.state == "lost" and look.why.startswith("its process is gone") and look.eta_s is None


def test_a_run_on_another_machine_is_believed(tmp_path):
    look = the_look(a_run(tmp_path / "arm" / "seed0", "running", host="elsewhere"))
    assert look.state == "running" and "on elsewhere, which cannot be asked from here" in look.why


def test_a_failed_run_shows_the_last_line_of_its_error(tmp_path):
    error = "Traceback (most recent call last):\n  File ...\nValueError: no such slide\n"
    look = the_look(a_run(tmp_path / "arm" / "seed0", "failed", error=error))
    assert (look.state, look.why) == ("failed", "ValueError: no such slide")


def test_a_probe_that_another_job_made_is_shown(tmp_path):
    run = a_run(tmp_path / "arm" / "seed0", "finished", step=100)
    results = {"knn/test/balanced_accuracy": 0.3, "linear/test/balanced_accuracy": 0.9}
    write_probe(run, step=100, patches_seen=800, task="other", results=results)
    (run / "config.yaml").write_text("report: {primary: probe/other/knn/test/balanced_accuracy}")
    assert the_look(run).probe == ("probe/other/knn/test/balanced_accuracy", 0.3)


def test_runs_are_found_from_a_run_a_study_and_a_folder_of_studies(tmp_path):
    run = a_run(tmp_path / "study" / "arm" / "seed0", "finished")
    for folder in (run, run.parent, tmp_path / "study", tmp_path):
        assert all_runs(folder) == [run]


# ---- SLURM, whose commands are played by a script: what it says of each job is written beside it

SQUEUE = """#!/bin/bash
cat {folder}/squeue.said; [ -s {folder}/squeue.error ] && {{ cat {folder}/squeue.error >&2; exit 1; }}; exit 0
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """slurm(queue=..., accounts=..., error=...) says what squeue and sacct print, and what squeue complains of."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("squeue", "sacct"):
        (tools / name).write_text(SQUEUE.replace("squeue", name).format(folder=tools))
        (tools / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def say(queue="", accounts="", error=""):
        for name, text in (("squeue.said", queue), ("sacct.said", accounts), ("squeue.error", error)):
            (tools / name).write_text(text)

    say()
    return say


@pytest.mark.parametrize(
    ("told", "queue", "state"),
    [
        ("queued", "9|7|3|PENDING|Priority", "queued"),
        ("queued", "9|7|3|RUNNING|None", "starting"),
        ("running", "9|7|3|RUNNING|None", "running"),
        ("running", "9|7|3|PENDING|BeginTime", "queued"),  # put back after its node failed
        ("running", "9|7|3|COMPLETING|None", "running"),
        ("preempted", "9|7|3|PENDING|BeginTime", "queued"),
        ("preempted", "9|7|3|RUNNING|None", "starting"),  # it is about to be put back, or to go on
        ("preempted", "9|7|3|COMPLETING|None", "starting"),
        ("queued", "9|7|3|COMPLETING|None", "starting"),
        ("failed", "9|7|3|PENDING|Priority", "queued"),  # sent again
        ("failed", "9|7|3|COMPLETED|None", "failed"),
        ("running", "9|7|3|COMPLETED|None", "lost"),  # whatever SLURM makes of it
        ("running", "", "lost"),
        ("queued", "", "lost"),
        ("preempted", "9|7|3|TIMEOUT|None", "lost"),
        ("finished", "", "finished"),
        ("finished", "9|7|3|RUNNING|None", "finished"),
    ],
)
def test_what_slurm_says_of_the_job_decides(told, queue, state, slurm, tmp_path):
    slurm(queue=queue + "\n" if queue else "")
    run = a_run(tmp_path / "arm" / "seed0", told, host="node7", job_id="7_3", submitted="7_3")
    assert the_look(run).state == state
    # What is under way is not sent a second time.
    assert list(under_way([run])) == ([run] if state in ("queued", "starting", "running", "finished") else [])


def test_a_run_that_died_in_a_job_that_lives_on_is_lost_where_its_lock_can_be_seen(slurm, tmp_path):
    slurm(queue="9|7|3|RUNNING|None\n")
    here = a_run(tmp_path / "here" / "seed0", "running", job_id="7_3")
    assert the_look(here).state == "lost" and "its job 7_3 lives on, but nothing holds its folder" in the_look(here).why
    with locked(here / ".lock"):
        assert (the_look(here).state, the_look(here).why) == ("running", "")
    there = a_run(tmp_path / "there" / "seed0", "running", host="node7", job_id="7_3")
    assert (the_look(there).state, the_look(there).why) == ("running", "")
    status = json.loads((there / "status.json").read_text()) | {"updated": "2020-01-01T00:00:00+00:00"}
    (there / "status.json").write_text(json.dumps(status))
    assert the_look(there).state == "running" and "nothing holds its folder" in the_look(there).why


def test_a_job_that_only_the_accounts_remember_is_gone_and_they_say_how(slurm, tmp_path):
    slurm(error="slurm_load_jobs error: Invalid job id specified", accounts="7_3|NODE_FAIL\n7_4|COMPLETED\n")
    look = the_look(a_run(tmp_path / "arm" / "seed0", "running", job_id="7_3", submitted="7_3"))
    assert (look.state, look.why) == ("lost", "its job 7_3 is gone (NODE_FAIL), without a word of the run")


def test_where_slurm_does_not_answer_nothing_is_called_lost(slurm, tmp_path):
    slurm(error="slurm_load_jobs error: Unable to contact slurm controller")
    look = the_look(a_run(tmp_path / "arm" / "seed0", "running", job_id="7_3", submitted="7_3"))
    assert look.state == "running" and "SLURM does not answer" in look.why


def test_a_slurm_that_does_not_answer_is_not_passed_over_in_silence(tmp_path, monkeypatch, capsys):
    for name in ("sbatch", "scontrol"):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit $(cat {tmp_path}/code)\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "code").write_text("1")
    assert not jobs.answers() and "no SLURM answers" in capsys.readouterr().err
    assert not jobs.answers() and capsys.readouterr().err == ""  # each run of a grid asks: it is said once
    (tmp_path / "code").write_text("0")
    assert not jobs.answers()  # nor does a part of a grid go elsewhere
    jobs._pinged.cache_clear()
    assert jobs.answers() and capsys.readouterr().err == ""


def test_a_run_that_was_sent_and_then_taken_over_by_hand_is_asked_here(tmp_path):
    run = a_run(tmp_path / "arm" / "seed0", "running", job_id=None, submitted="7_3")
    with locked(run / ".lock"):
        assert the_look(run).state == "running"


def test_states_of_slurm_that_nobody_knows_count_as_alive():
    assert not jobs.Job("SOMETHING_NEW", "").over and not jobs.Job("SOMETHING_NEW", "").waiting


# ---- as it is typed


@pytest.mark.slow
def test_a_killed_run_is_shown_as_lost(small, tmp_path):
    line = [sys.executable, str(ROOT / "train.py"), *small, "train.patches=80000", "train.log_every=0.0001"]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 120
            while not any(
                (read_status(path.parent) or {}).get("step") for path in tmp_path.glob("outputs/*/*/*/status.json")
            ):
                assert time.monotonic() < until and process.poll() is None
                time.sleep(0.1)
            (run,) = all_runs(tmp_path / "outputs")
            assert the_look(run).state == "running"
        finally:
            process.send_signal(signal.SIGKILL)
    done = pathssl("status", "outputs", cwd=tmp_path)
    assert done.returncode == 0 and "1 run: 1 lost." in done.stdout and "its process is gone" in done.stdout
    done = pathssl("status", "outputs", "--json", "--watch", cwd=tmp_path)
    (row,) = json.loads(done.stdout)["runs"]
    assert row["state"] == "lost" and row["requeues"] == 0 and row["total_steps"] == 10000


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_runs_is_answered_in_a_sentence(folder, tmp_path):
    for verb in ("status", "retry"):
        done = pathssl(verb, folder, cwd=tmp_path)
        assert done.returncode == 2 and folder in done.stderr and "Traceback" not in done.stderr


def test_status_needs_neither_torch_nor_the_plotting_libraries():
    code = "import sys, pathssl.launch.status; sys.exit(bool({'torch', 'scipy', 'matplotlib', 'hydra'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
