"""Probes beside training: the numbers of the loop, at their steps; nothing is lost or doubled whoever is killed."""

import errno
import fcntl
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from programs import pathssl, train

from pathssl import late_probes, parts, probe_runs
from pathssl.cli import compose
from pathssl.files import locked
from pathssl.launch.status import look_at
from pathssl.metric_keys import metric_key
from pathssl.probe_process import unprobed
from pathssl.probe_records import is_probed, read_predictions, read_probes, read_rows, write_probe
from pathssl.records import append_metrics, find_runs, read_config, read_metrics, write_status
from pathssl.run import derived, run
from pathssl.training.checkpoints import Checkpoints
from pathssl.training.retention import Retention

ROOT = Path(__file__).resolve().parents[1]
STEPS = (0, 4, 8)
LATE = ["probe.where=job", "checkpoint.keep_every=2"]


@pytest.fixture(scope="module")
def inline(cohort, tmp_path_factory):
    """{step: {key: value}} of the loop, and the run."""
    from conftest import small

    folder = tmp_path_factory.mktemp("inline")
    done = train(*small.__wrapped__(cohort, folder), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(folder / "outputs" / "small")
    return run


@pytest.fixture
def unprobed_run(small, tmp_path, monkeypatch):
    """A finished run whose probes nobody made."""
    monkeypatch.setattr("pathssl.run.start_probes", lambda *_, **__: None)
    done = train(*small, *LATE, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "small")
    return run


def numbers(run: Path) -> dict[int, dict[str, float]]:
    return {
        row["step"]: {key: value for key, value in row.items() if key.startswith(("probe/", "unsupervised/"))}
        for row in read_rows(run)
        if any(key.startswith("probe/") for key in row)
    }


def same_as_loop(run: Path, inline: Path) -> None:
    """Every number once, at its step, and the same; the predictions too."""
    assert numbers(run) == numbers(inline) and tuple(numbers(run)) == STEPS
    for step in STEPS:
        ours, theirs = read_predictions(run, step, "synthetic"), read_predictions(inline, step, "synthetic")
        assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    names = [(probe["step"], probe["task"]) for probe in read_probes(run)]
    assert len(names) == len(set(names)) == 2 * len(STEPS)


def late(run: Path) -> subprocess.Popen:
    line = [sys.executable, "-m", "pathssl", "probe", str(run), "--late"]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_training_writes_no_probes_and_keeps_what_is_not_probed(unprobed_run, inline):
    assert read_probes(unprobed_run) == [] and unprobed(unprobed_run) == list(STEPS)
    assert not any(key.startswith(("probe/", "unsupervised/")) for row in read_metrics(unprobed_run) for key in row)
    assert look_at([unprobed_run])[0].why.startswith("3 checkpoints not probed yet")
    done = pathssl("probe", unprobed_run, "--late", cwd=unprobed_run)
    assert look_at([unprobed_run])[0].why == ""
    assert done.returncode == 0 and "probed step 0, step 4, step 8" in done.stdout, done.stdout + done.stderr
    same_as_loop(unprobed_run, inline)
    assert Checkpoints(unprobed_run).steps() == [0, 8]  # 4 stayed only to be probed
    done = pathssl("probe", unprobed_run, "--late", cwd=unprobed_run)
    assert "nothing new" in done.stdout


@pytest.mark.slow
def test_a_run_starts_a_process_that_probes_it(small, tmp_path, inline):
    done = train(*small, *LATE, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "small")
    until = time.monotonic() + 300
    while not all(is_probed(run, step) for step in STEPS):
        assert time.monotonic() < until, (run / "probes.log").read_text()
        time.sleep(0.2)
    same_as_loop(run, inline)
    while Checkpoints(run).steps() != [0, 8]:  # 4 stayed only to be probed
        assert time.monotonic() < until, (run / "probes.log").read_text()
        time.sleep(0.2)
    for lock in (".probes.waiting", ".probes.lock"):  # let all end
        with locked(run / lock):
            pass


@pytest.mark.slow
def test_a_killed_probe_job_neither_loses_nor_doubles_a_number(unprobed_run, inline):
    for after in (1, 2, 4):  # files of results that are there when it is killed
        process = late(unprobed_run)
        until = time.monotonic() + 300
        while len(list((unprobed_run / "probes").glob("step_*/[!.]*.json"))) < after:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert unprobed(unprobed_run)
    assert late(unprobed_run).wait(300) == 0
    same_as_loop(unprobed_run, inline)


@pytest.mark.slow
def test_one_works_one_waits_and_others_are_not_needed(unprobed_run):
    with open(unprobed_run / ".probes.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one works
        with open(unprobed_run / ".probes.waiting", "a") as waiting:
            fcntl.flock(waiting, fcntl.LOCK_EX)  # one waits
            assert late_probes.probe_late(unprobed_run) == []
    assert unprobed(unprobed_run) == list(STEPS)


@pytest.mark.slow
def test_what_is_saved_between_checkpoints_is_not_probed_and_a_vanished_one_not_missed(
    unprobed_run, inline, monkeypatch
):
    checkpoints = Checkpoints(unprobed_run)
    shutil.copytree(checkpoints.path(4), checkpoints.path(5))
    load = late_probes.load_teacher

    def late_load(config, weights):
        if weights.parent == checkpoints.path(4):
            shutil.rmtree(weights.parent)  # after it was seen to be there
        return load(config, weights)

    monkeypatch.setattr(late_probes, "load_teacher", late_load)
    assert late_probes.probe_late(unprobed_run) == [0, 8]
    assert {step: numbers(inline)[step] for step in (0, 8)} == numbers(unprobed_run)


@pytest.mark.slow
def test_mistakes_are_answered_in_a_sentence(inline, tmp_path):
    done = pathssl("probe", inline, "--late", cwd=tmp_path)
    assert done.returncode == 2 and "probe.where=inline" in done.stderr
    done = pathssl("probe", inline, "task=[]", "--late", cwd=tmp_path)
    assert done.returncode == 2 and "--late takes one run" in done.stderr


def test_the_best_is_kept_once_all_are_probed(tmp_path):
    steps, protocol = [0, 4, 8, 12], "linear/val/balanced_accuracy"
    keep = Retention(
        tmp_path, steps, every=4, best=metric_key("synthetic", protocol), is_probed=partial(is_probed, tmp_path)
    )

    def kept_after(scores: dict[int, float]) -> list[int]:
        for step, score in scores.items():
            place = {"step": step, "patches_seen": 8 * step}
            write_probe(tmp_path, **place, task="synthetic", results={protocol: score})
            write_probe(tmp_path, **place, task="unsupervised", results={})
        return sorted(keep(steps))

    for step in steps:
        append_metrics(tmp_path, {"step": step, "patches_seen": 8 * step})
    assert kept_after({}) == steps  # none is known to be the best
    assert kept_after({0: 0.3, 4: 0.9}) == [0, 4, 8, 12]  # the best so far, and what is not probed
    assert kept_after({8: 0.5}) == [0, 4, 12]
    assert kept_after({12: 0.95}) == [0, 12]


@pytest.fixture(scope="module")
def on_paper():
    config = compose([*LATE, "train.patches=64", "batch.size=8"])
    config["train"]["checkpoint_every"] = 0.5
    return config | {"derived": derived(config)}


@pytest.fixture
def all_probed(on_paper, tmp_path):
    """A finished run of 8 steps, on paper, whose checkpoints are all probed, and kept."""
    folder = tmp_path / "outputs" / "small" / "default" / "seed0"
    for step in STEPS:
        Checkpoints(folder).path(step).mkdir(parents=True)
        write_probe(folder, step=step, patches_seen=8 * step, task="unsupervised", results={"rankme": 5.0})
    (folder / "config.yaml").write_text(yaml.safe_dump(on_paper | {"output_dir": str(tmp_path / "outputs")}))
    ends(folder, "finished")
    return folder


def ends(folder: Path, state: str) -> None:
    place = {"step": 8, "total_steps": 8, "patches_seen": 64}
    write_status(folder, state, **place, host=None, job_id=None, error=None)


def test_what_is_done_at_the_end_is_done_by_the_first_that_finds_the_run_finished(all_probed, monkeypatch):
    config = read_config(all_probed)
    (all_probed / "config.yaml").write_text(yaml.safe_dump(config | {"logger": {"wandb": {"mode": "offline"}}}))
    told = what_a_tracker_is_told(monkeypatch)
    ends(all_probed, "running")  # W&B still has it
    assert late_probes.probe_late(all_probed) == []
    assert Checkpoints(all_probed).steps() == [0, 4, 8] and not told
    ends(all_probed, "finished")
    assert late_probes.probe_late(all_probed) == []
    assert Checkpoints(all_probed).steps() == [0, 8] and told == ["late"]


def test_a_job_looks_once_more_after_it_has_said_that_it_ends(all_probed, monkeypatch):
    ending, looks = all_probed / ".probes.ending", []
    ending.write_text("9")  # it was put back in the queue at its end
    monkeypatch.setattr(late_probes, "_probe_all", lambda *_: looks.append(ending.is_file()) or [])
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    late_probes.probe_late(all_probed)
    assert looks == [False, True] and ending.read_text() == "9\n"


class ReachedError(Exception):
    pass


def by_the_verb(run: Path) -> None:
    config = read_config(run)
    probe_runs._outcome(None, config, config, {}, with_nulls=False, may_be_trained=False)


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize(
    ("door", "reaches"), [(late_probes.probe_late, "sources.Data"), (by_the_verb, "probe_runs.Probes")]
)
def test_probes_are_made_by_the_kernels_of_the_loop(door, reaches, on, all_probed, monkeypatch):
    def reached(*_, **__):
        raise ReachedError(torch.are_deterministic_algorithms_enabled())

    config = read_config(all_probed)
    config["train"]["deterministic"] = on
    (all_probed / "config.yaml").write_text(yaml.safe_dump(config))
    (all_probed / "probes" / "step_00000008" / "unsupervised.json").unlink()
    monkeypatch.setattr(probe_runs, "check_probed", lambda *_: None)
    monkeypatch.setattr(f"pathssl.{reaches}", reached)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not on)
    try:
        with pytest.raises(ReachedError, match=str(on)):
            door(all_probed)
    finally:
        torch.use_deterministic_algorithms(before)


def test_a_disk_without_locks_is_said_and_probed_on(all_probed, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert late_probes.probe_late(all_probed) == [] and "has no locks" in caplog.text
    assert Checkpoints(all_probed).steps() == [0, 8]


@pytest.mark.slow
def test_an_agent_that_draws_a_finished_run_tells_its_late_results_too(unprobed_run, small, monkeypatch):
    told = what_a_tracker_is_told(monkeypatch)
    monkeypatch.setattr("pathssl.run.of_agent", lambda: True)
    run(compose([*small, *LATE]), unprobed_run.parent.name)
    assert told == ["again", "late"]


def what_a_tracker_is_told(monkeypatch) -> list[str]:
    """A list that fills with what trackers are asked to log."""
    told = []

    class Tracker:
        def log_again(self, _):
            told.append("again")

        def log_late(self):
            told.append("late")

    monkeypatch.setattr(parts, "tracker", contextmanager(lambda *_: iter([Tracker()])))
    return told


@pytest.mark.slow
def test_late_results_reach_wandb_once_at_the_patches_that_they_are_of(inline):
    from pathssl.training import tracking

    rows = []
    tracker = tracking.Tracker(inline, wandb=None, config={}, choices={}, name="", group="")
    tracker._mirror = type("Mirror", (), {"is_new": True, "call": lambda *call: rows.append(call[-1])})()
    tracker.log_late()
    tracker.log_late()
    found = {(row["step"], row["patches_seen"]) for row in rows}
    assert found == {(step, step * 8) for step in STEPS} and len(rows) == len(STEPS)
    key = metric_key("synthetic", "linear/test/balanced_accuracy")
    assert [row[key] for row in rows] == [values[key] for values in numbers(inline).values()]
    (inline / "wandb_probes.txt").unlink()
