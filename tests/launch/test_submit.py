"""What is sent to SLURM: the text of the job, and the code as it is now."""

import json
import os
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from programs import ROOT

from pathssl.complaints import CONF
from pathssl.errors import UserError
from pathssl.files import locked
from pathssl.launch.slurm_options import check_options, executor_of
from pathssl.launch.snapshot import snapshot
from pathssl.launch.status import look_at
from pathssl.launch.submit import submit
from pathssl.records import find_runs

GOLDEN = ROOT / "tests" / "launch" / "golden"
ALL = [
    "hydra.launcher.partition=a100",
    "hydra.launcher.qos=long",
    "hydra.launcher.account=lab",
    "hydra.launcher.constraint=ib",
    "hydra.launcher.mem_gb=null",
    "hydra.launcher.timeout_min=90",
    "hydra.launcher.signal_delay_s=120",
    "hydra.launcher.max_num_timeout=3",
    "hydra.launcher.array_parallelism=4",
    "hydra.launcher.mail_user=me@example.org",
    "hydra.launcher.mail_type=[END,FAIL]",
    "hydra.launcher.gpu_type=h100",
    "hydra.launcher.gpus_as=gres",
    "hydra.launcher.setup=[module load cuda]",
    "+hydra.launcher.sbatch.exclude=[node7,node8]",
    "+hydra.launcher.sbatch.exclusive=true",
]


def options(launcher: str, *overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"hydra/launcher={launcher}", *overrides], return_hydra_config=True)
    return OmegaConf.to_container(config.hydra.launcher, resolve=True)


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """submitit wants to see one before it writes what is for one."""
    program = tmp_path / "bin" / "srun"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("name", "launcher", "overrides"),
    [
        ("slurm_1gpu", "slurm_1gpu", []),
        ("slurm_8gpu", "slurm_8gpu", []),
        ("slurm_multinode", "slurm_multinode", ["hydra.launcher.nodes=4"]),
        ("all_options", "slurm_1gpu", ALL),
    ],
)
def test_each_option_stands_in_the_job_as_slurm_knows_it(srun, tmp_path, name, launcher, overrides):  # noqa: ARG001
    executor = executor_of(options(launcher, *overrides), tmp_path / "study", tmp_path / "code")
    executor.parameters["map_count"] = 8
    text = executor._make_submission_file_text(executor._submitit_command_str, "uid")
    text = text.replace(str(tmp_path), "/data").replace(sys.executable, "/env/python")
    assert text + "\n" == (GOLDEN / f"{name}.sbatch").read_text()


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("hydra.launcher.nodes=0", r"hydra\.launcher\.nodes=0 must be a whole number, at least 1"),
        ("hydra.launcher.wait=2", r"hydra\.launcher\.wait=2 must be true or false"),
        ("hydra.launcher.mem_gb=much", r"hydra\.launcher\.mem_gb=much must be a number"),
        (
            "hydra.launcher.timeout_min=9",
            r"warned of its end .* at least 10 minutes, or a signal_delay_s of at most 270",
        ),
        ("hydra.launcher.gpus_per_node=8", r"gpus_per_node=8 and tasks_per_node=1: .* the two are equal"),
        ("hydra.launcher.gpus_per_node=a100:1", r"gpus_per_node=a100:1 must be a whole number"),
        ("hydra.launcher.gpu_type=4", r"gpu_type=4 names the cluster's kind"),
        ("hydra.launcher.gpus_as=gpus", r"gpus_as=gpus must be one of gpus_per_node, gres"),
        ("hydra.launcher.setup=module load cuda", r"must be a list of lines of shell"),
        ("hydra.launcher.sbatch=4", r"must hold options by name"),
        ("+hydra.launcher.sbatch.gres='gpu:a100:4'", r"sbatch\.gres: say it by hydra\.launcher\.gpus_per_node"),
        ("+hydra.launcher.sbatch.gpus_per_task=1", r"sbatch\.gpus_per_task: say it by"),
    ],
)
def test_an_option_that_cannot_be_is_refused(override, why):
    with pytest.raises(UserError, match=why):
        check_options(options("slurm_1gpu", override))


@pytest.fixture
def two_runs(tmp_path):
    """(jobs, configs, options) of two runs of a study in `tmp_path`, as `submit` takes them."""
    config = {"output_dir": str(tmp_path), "study": "s", "train": {"patches": 80}, "batch": {"size": 8}}
    jobs = [["seed=0"], ["seed=1"]]
    return jobs, [config | {"seed": k} for k in range(2)], options("slurm_1gpu", "hydra.launcher.gpus_per_node=0")


def tool(folder, name, script):
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / name).chmod(0o755)


def test_what_sbatch_refuses_leaves_no_runs_behind(srun, tmp_path, two_runs):  # noqa: ARG001
    tool(tmp_path, "sbatch", "echo 'invalid partition' >&2; exit 1")
    with pytest.raises(UserError, match=r"sbatch refused: invalid partition\nNothing was started"):
        submit(*two_runs)
    assert find_runs(tmp_path / "s") == [] and not (tmp_path / "s" / "default").exists()


def test_an_array_whose_folders_could_not_be_written_is_cancelled(srun, tmp_path, two_runs, monkeypatch):  # noqa: ARG001
    tool(tmp_path, "sbatch", "echo 'Submitted batch job 7'")
    tool(tmp_path, "scancel", f"echo $1 >> {tmp_path}/cancelled")

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathssl.launch.submit.write_submission", full)
    with pytest.raises(OSError, match="No space"):
        submit(*two_runs)
    assert (tmp_path / "cancelled").read_text() == "7\n" and find_runs(tmp_path / "s") == []


def test_what_waits_with_other_settings_is_not_left_alone_in_silence(srun, tmp_path, two_runs):  # noqa: ARG001
    jobs, configs, given = two_runs
    tool(tmp_path, "sbatch", "echo 'Submitted batch job 7'")
    tool(tmp_path, "scontrol", "")
    tool(tmp_path, "squeue", 'for k in 0 1; do echo "$((8 + k))|7|$k|PENDING|BadConstraints"; done')
    assert [sent.job_id for sent in submit(jobs, configs, given)] == ["7_0", "7_1"]
    assert [sent.left for sent in submit(jobs, configs, given)] == ["queued already"] * 2
    other = [sent.left for sent in submit(jobs, configs, given | {"mem_gb": 8, "wait": True})]
    assert other == [f"queued already with another mem_gb (scancel 7_{k} first)" for k in range(2)]
    assert "no node has what the job asks for" in look_at(find_runs(tmp_path / "s"))[0].why


def test_a_study_is_sent_by_one_command_at_a_time(srun, tmp_path, two_runs):  # noqa: ARG001
    (tmp_path / "s").mkdir()
    with locked(tmp_path / "s" / ".sending.lock"), pytest.raises(UserError, match="at this moment"):
        submit(*two_runs)


def test_code_that_was_kept_does_not_change_and_is_kept_once(tmp_path):
    root = tmp_path / "root"
    (root / "pathssl" / "__pycache__").mkdir(parents=True)
    (root / "pathssl" / "__pycache__" / "x.pyc").touch()
    (root / "train.py").write_text("one")
    for folder in ("conf", "experiments"):
        (root / folder).mkdir()
    (root / "conf" / "config.yaml").write_text("b: 1")
    (root / "experiments" / "demo.yaml").write_text("a: 1")
    first = snapshot(tmp_path / "study", root)
    assert snapshot(tmp_path / "study", root) == first
    (root / "train.py").write_text("two")
    second = snapshot(tmp_path / "study", root)
    assert second != first and (first / "train.py").read_text() == "one" and (second / "train.py").read_text() == "two"
    assert not list(first.rglob("*.pyc")) and json.loads((first / "code.json").read_text()) == {
        "commit": None,
        "diff": None,
    }


def test_the_kept_code_is_all_that_a_run_needs(tmp_path):
    code = snapshot(tmp_path / "study")
    assert (code / "conf" / "experiment" / "demo.yaml").is_file() and (code / "slurm" / "requeue.sh").is_file()
    for part in ("pathssl", "conf", "experiments", "hydra_plugins"):
        kept = {path.relative_to(code) for path in (code / part).rglob("*") if path.is_file()}
        ours = {path.relative_to(ROOT) for path in (ROOT / part).rglob("*") if path.is_file()}
        theirs = {path for path in ours - kept if path.suffix != ".md" and "__pycache__" not in path.parts}
        assert {path for path in theirs if path.parts[:2] != ("experiments", "results")} == set()
