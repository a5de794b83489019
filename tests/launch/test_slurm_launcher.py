"""`python train.py ... -m` where there is a SLURM."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
from programs import ROOT, pathssl, train
from slurm_cluster import closed, ran, until

from pathssl.launch.differences import compare
from pathssl.launch.status import look_at
from pathssl.probe_records import is_probed, read_probes
from pathssl.records import find_runs, read_json, read_status, read_submission

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
JOB = ["hydra.launcher.mem_gb=1", "hydra.launcher.cpus_per_task=1"]
_PATIENCE = 1.5  # a second of a CPU does less where the other one is busy too
BROKEN = "raise RuntimeError('this arm cannot be')"


@pytest.fixture
def tree(tmp_path):
    """A copy of the code, which a test may change."""
    tree = tmp_path / "tree"
    skipped = shutil.ignore_patterns(".*", "tests", "benchmarks", "outputs", "cache", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=skipped, symlinks=True)
    return tree


@pytest.fixture
def line(small):
    return [*(o for o in small if not o.startswith("output_dir=")), "train.device=cpu"]


def launched(folder, *overrides, env, program="train.py"):
    """`python train.py OVERRIDES -m`, and the seconds that it computed: how long the prompt is away, if nobody else wants the cores."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, program, *overrides, "-m"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_grid_goes_to_slurm_runs_the_code_of_its_submission_and_is_completed_by_retry(slurm, line, tree, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    env = {key: value for key, value in slurm.items() if key != "PYTHONPATH"}
    trainer = tree / "pathssl" / "training" / "trainer.py"
    whole = trainer.read_text()
    began = "        checkpoint_steps, log_steps ="
    condition = "if self.step.seed == 1 and self.recipe.momentum < 0.985: "
    trainer.write_text(whole.replace(began, f"        {condition}{BROKEN}\n{began}"))
    grid = [*line, *JOB, "teacher=m0.9,m0.99,m0.996,m0.999", "seed=0,1", "hydra.launcher.array_parallelism=3"]
    done, away_s = launched(tree, *grid, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert away_s < _PATIENCE * 10, "the prompt is back within 10 s"
    trainer.write_text("this is no Python")
    runs = find_runs(tree / "outputs" / "small")
    ids = [read_submission(run)["job_id"] for run in runs]
    assert len({id_.split("_")[0] for id_ in ids}) == 1 and len(set(ids)) == 8, "one array"
    table = [row.split() for row in done.stdout.splitlines() if "/seed" in row]
    assert {(row[1], row[2]) for row in table} == {
        (str(run.relative_to(tree)), id_) for run, id_ in zip(runs, ids, strict=True)
    }
    assert "python -m pathssl status outputs/small" in done.stdout and "report outputs/small" in done.stdout
    seen = set()

    def over():
        states = [look.state for look in look_at(runs)]
        seen.update(states)
        return set(states) <= {"finished", "failed"}

    until(over, 200, lambda: [(look.run, look.state, look.why) for look in look_at(runs)])
    assert {"queued", "running", "finished"} <= seen
    (failed,) = [run for run in runs if read_status(run)["state"] == "failed"]
    shown = pathssl("status", "outputs/small", cwd=tree)
    assert "RuntimeError: this arm cannot be" in shown.stdout and "7 finished" in shown.stdout
    trainer.write_text(whole)
    ended = {run: read_status(run) for run in runs if run != failed}
    again = pathssl("retry", "outputs/small", "--json", cwd=tree)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [row["run"] for row in json.loads(again.stdout)["again"]] == [str(failed.relative_to(tree))]
    until(lambda: read_status(failed)["state"] == "finished", 90, lambda: read_status(failed))
    assert {run: read_status(run) for run in ended} == ended
    done, _ = launched(tree, *grid, env=env)
    assert done.returncode == 0 and "Nothing to do." in done.stdout, done.stdout + done.stderr
    assert read_json(runs[0] / "environment.json")["slurm_job_id"]
    for run in (failed, next(iter(ended))):  # the same runs, here
        overrides = [o for o in read_submission(run)["overrides"] if not o.startswith("study=")]
        assert train(*overrides, "study=here", cwd=tree).returncode == 0
        here = tree / "outputs" / "here" / run.parent.name / run.name
        assert [found.first for found in compare(run, here) if found.different] == []


def test_a_hundred_arms_are_submitted_in_forty_seconds_and_wait(slurm, line, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    momenta = ",".join(f"0.{k}" for k in range(800, 900))
    arms = f"teacher.momentum={momenta}"
    with closed(slurm):
        done, away_s = launched(tmp_path, *line, *JOB, arms, env=os.environ, program=str(ROOT / "train.py"))
        assert done.returncode == 0, done.stdout + done.stderr
        runs = find_runs(tmp_path / "outputs" / "small")
        looks = look_at(runs)
        ran("scancel", read_submission(runs[0])["job_id"].split("_")[0], env=slurm)
    assert len(runs) == 100 and {look.state for look in looks} == {"queued"}
    assert {look.state for look in look_at(runs)} == {"lost"}
    assert away_s < _PATIENCE * 40


def test_what_slurm_refuses_is_told_in_its_words_and_leaves_nothing_queued(slurm, line, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    done = train(*line, *JOB, "hydra.launcher.partition=nowhere", "-m", cwd=tmp_path)
    assert done.returncode == 2 and "partition" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert find_runs(tmp_path / "outputs" / "small") == []


def test_who_waits_sees_progress_and_the_end(slurm, line, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    done = train(*line, *JOB, "hydra/launcher=slurm_1gpu", "hydra.launcher.wait=true", "-m", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "small")
    assert read_status(run)["state"] == "finished" and "step 8 of 8" in done.stdout


def test_probes_of_a_job_are_jobs_of_their_own(slurm, line, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    late = ["probe.where=job", "checkpoint.keep_every=2"]
    done, _ = launched(tmp_path, *line, *JOB, *late, env=os.environ, program=str(ROOT / "train.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "small")
    until(lambda: all(is_probed(run, step) for step in (0, 4, 8)), 240, lambda: (read_status(run), said(run)))
    until(lambda: len(list(run.glob("checkpoints/step_*"))) == 2, 240, lambda: (read_status(run), said(run)))  # its end
    own, sent = read_submission(run)["job_id"].partition("_")[0], (run / "probe_job.txt").read_text().strip()
    assert sent.isdecimal() and sent != own
    assert train(*line, "study=here", cwd=tmp_path).returncode == 0
    (here,) = find_runs(tmp_path / "outputs" / "here")
    late, inline = (
        {p["step"]: p["results"] for p in read_probes(of) if p["task"] == "synthetic"} for of in (run, here)
    )
    assert late == inline and len(late) == 3


def said(run):
    log = run / "probes.log"
    return log.read_text() if log.is_file() else "nothing"
