"""`python -m pathssl retry`: what failed or was lost is started again, and nothing else."""

import json
import subprocess
import sys
import time

import pytest
import yaml
from programs import ROOT, pathssl, train
from test_status import slurm  # noqa: F401  # a fixture

from pathssl.launch.retry import HERE, NOT_BEGUN, retry
from pathssl.records import find_runs, read_metrics, read_status, write_status


def a_run(run, state, error=None, **environment):
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"train": {"device": "cpu", "threads": 1}}))
    (run / "environment.json").write_text(json.dumps(environment))
    write_status(run, state, step=3, total_steps=8, patches_seen=24, host=None, job_id=None, error=error)
    return run


def test_a_dry_run_says_what_would_be_started_again_and_starts_nothing(tmp_path):
    line = {
        "command": "python train.py teacher=m0.9 'augmentation.local_scale=[0.1, 0.4]'",
        "folder": str(tmp_path),
        "processes": 1,
    }
    failed = a_run(tmp_path / "a" / "seed0", "failed", error="Traceback\nOSError: disk", **line)
    for state in ("finished", "preempted", "queued"):
        a_run(tmp_path / state / "seed0", state, **line)
    answer = retry(find_runs(tmp_path), dry_run=True)
    text, stopped = answer["text"].rsplit("\n", 1)
    assert text == f"1 run of 4:\n  {failed}: failed (OSError: disk); again on this machine"
    assert stopped == "1 run more stopped when asked to: the command that started it goes on."
    (row,) = answer["again"]
    assert row["overrides"] == ["teacher=m0.9", "augmentation.local_scale=[0.1, 0.4]"] and answer["left_alone"] == 3
    assert read_status(failed)["state"] == "failed"


def test_where_all_is_well_there_is_nothing_to_do(tmp_path):
    answer = retry([a_run(tmp_path / "a" / "seed0", "finished")], dry_run=False)
    assert (
        answer["again"] == []
        and answer["text"] == "Nothing to do: none of 1 run failed or was lost."
        and not answer["broken"]
    )


def test_what_somebody_else_sent_to_a_cluster_is_not_run_on_the_machine_of_whoever_asks(tmp_path):
    run = a_run(tmp_path / "a" / "seed0", "failed", command="python train.py", folder="/", slurm_job_id="7")
    answer = retry([run], dry_run=False)
    assert "the same command goes on" in answer["text"] and read_status(run)["state"] == "failed"


def test_a_run_that_never_began_does_not_hold_up_the_others(tmp_path):
    (tmp_path / "a" / "seed0").mkdir(parents=True)
    (tmp_path / "a" / "seed0" / "config.yaml").write_text("seed: 0")
    line = {"command": "python train.py teacher=m0.9", "folder": str(tmp_path), "processes": 1}
    a_run(tmp_path / "b" / "seed0", "failed", error="OSError: disk", **line)
    answer = retry(find_runs(tmp_path), dry_run=True)
    assert [row["on"] for row in answer["again"]] == [NOT_BEGUN, HERE] and "repeat its command" in answer["text"]


LOCAL = {"_target_": "hydra_plugins.pathssl_launcher.LocalLauncher", "parallel": 1, "processes": 1}


@pytest.mark.slow
def test_runs_that_a_launcher_sent_are_sent_again_by_it_and_only_those(slurm, small, tmp_path):  # noqa: F811
    slurm(queue="")  # knows no job
    lines = {seed: [*(o for o in small if not o.startswith("output_dir")), f"seed={seed}"] for seed in (0, 1, 2)}
    assert train(*lines[0], cwd=tmp_path).returncode == 0
    (first,) = find_runs(tmp_path / "outputs" / "small")
    for seed in (1, 2):  # what a launcher leaves of a run that has not begun
        (first.parent / f"seed{seed}").mkdir()
        config = yaml.safe_load((first / "config.yaml").read_text()) | {"seed": seed}
        (first.parent / f"seed{seed}" / "config.yaml").write_text(yaml.safe_dump(config))
    runs = find_runs(tmp_path / "outputs" / "small")
    for run, line in zip(runs, lines.values(), strict=True):
        submission = {"job_id": "7_0", "overrides": line, "launcher": LOCAL, "submitted": "", "code": ""}
        (run / "submission.json").write_text(json.dumps(submission))
    for run, state in zip(runs[1:], ("failed", "queued"), strict=True):  # as if their jobs had died; the last is lost
        numbers = {"step": 0, "total_steps": 8, "patches_seen": 0, "host": None, "error": "Traceback\nOSError: disk"}
        write_status(run, state, **numbers, job_id="7_0")
    before = read_status(runs[0])
    done = pathssl("retry", "outputs/small", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert [(row["state"], row["on"]) for row in answer["again"]] == [("failed", "sent again"), ("lost", "sent again")]
    assert [row["overrides"] for row in answer["again"]] == [lines[1], lines[2]]
    assert [read_status(run)["state"] for run in runs] == ["finished"] * 3 and read_status(runs[0]) == before


@pytest.mark.slow
def test_lost_and_failed_runs_are_run_again_and_the_finished_one_is_not(small, tmp_path):
    assert train(*small, "teacher=m0.9", cwd=tmp_path).returncode == 0
    (whole,) = find_runs(tmp_path / "outputs" / "small")
    finished = read_status(whole)
    assert train(*small, "optim.base_lr=1e30", "schedule.warmup=0.0", cwd=tmp_path).returncode == 1
    longer = [*small, "train.patches=2400", "seed=5"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *longer], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        until = time.monotonic() + 120
        while not any((read_status(run) or {}).get("step") for run in tmp_path.glob("outputs/small/*/seed5")):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        process.kill()
    done = pathssl("retry", "outputs/small", cwd=tmp_path)
    (failed,) = (run for run in find_runs(tmp_path / "outputs" / "small") if read_status(run)["state"] == "failed")
    assert done.returncode == 1 and done.stdout.endswith(
        f"\n1 run failed again: outputs/small/{failed.parent.name}/seed0.\n"
    )
    assert (read_status(failed)["state"], read_status(failed)["starts"]) == ("failed", 2)
    (lost,) = tmp_path.glob("outputs/small/*/seed5")
    assert (read_status(lost)["state"], read_status(lost)["starts"]) == ("finished", 2)
    assert [row["step"] for row in read_metrics(lost)][-1] == 300
    assert read_status(whole) == finished
