"""slurm/requeue.sh and part.sh: what goes back into the queue. SLURM's commands are played here; test_slurm*.py have the real ones."""

import subprocess

import pytest
from programs import ROOT


@pytest.fixture
def ends(tmp_path):
    """ends(code, state) -> (exit code, whether the job was requeued) of a job whose run ended so."""
    calls = tmp_path / "calls"
    (tmp_path / "bin").mkdir()
    for name, script in (("squeue", "echo $STATE"), ("scontrol", f"echo $* >> {calls}")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def end(code, state="RUNNING"):
        calls.unlink(missing_ok=True)
        environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "SLURM_JOB_ID": "9", "STATE": state}
        environment |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "PATHSSL_LOGS": str(tmp_path)}
        environment |= {
            "PATHSSL_MAX_TIMEOUTS": "2",
            "SLURM_RESTART_COUNT": "50",
        }  # of which most may have been preemptions
        line = ["bash", "-uc", f"code={code}; source {ROOT / 'slurm' / 'requeue.sh'}"]
        done = subprocess.run(line, env=environment, check=False, capture_output=True, text=True, timeout=20)
        assert not calls.exists() or calls.read_text() == "requeue 7_3\n"
        return done.returncode, calls.exists()

    return end


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (2, False), (75, True), (137, True), (201, False)])
def test_what_was_stopped_goes_on_and_what_failed_does_not(ends, code, again):
    assert ends(code) == (code, again)


def test_a_cancelled_job_stays_so(ends):
    assert ends(75, "CANCELLED") == (75, False)


@pytest.mark.parametrize(("code", "most"), [(137, 3), (140, 2), (143, 2)])
def test_what_is_killed_time_and_again_is_given_up_and_counted_anew_once_it_saved(ends, code, most):
    assert [ends(code)[1] for _ in range(most + 1)] == [True] * most + [False]
    assert [ends(c)[1] for c in (code, code, 75, code, code)] == [True] * 5


@pytest.mark.parametrize(
    ("task", "first", "count", "parts", "part"),
    [
        (4, 1, 8, None, "4/8"),
        (0, 0, 3, None, "1/3"),
        (7, 3, 2, "8", "7/8"),
        (7, 3, 2, None, None),
        (9, 9, 1, "8", None),
    ],
)
def test_a_task_of_an_array_knows_its_share_or_refuses(task, first, count, parts, part, tmp_path):
    environment = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_ARRAY_TASK_ID": str(task), "PATH": "/usr/bin:/bin"}
    environment |= {"SLURM_ARRAY_TASK_MIN": str(first), "SLURM_ARRAY_TASK_COUNT": str(count)}
    environment |= {"PARTS": parts} if parts else {}
    line = ["bash", "-c", f"source {ROOT / 'slurm' / 'part.sh'}; echo $part"]
    done = subprocess.run(line, env=environment, check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout.strip()) == ((0, part) if part else (2, ""))
    assert part or "has no share of" in done.stderr
