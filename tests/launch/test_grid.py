"""What is refused of a `-m` line before any of its runs begins."""

from pathlib import Path

import pytest
import yaml
from programs import pathssl, train

from pathssl.errors import UserError
from pathssl.identity import arm_name, run_folder
from pathssl.launch.grid import check_runs, compose_runs, read_grid
from pathssl.records import write_status

LOST = "report.baseline='teachr=m0.98'"


def refuse(*typed, output_dir):
    line = ["experiment=demo", f"output_dir={output_dir}", *typed]
    grid = read_grid(line)
    jobs = grid.jobs()
    configs = [config for config, *_ in compose_runs(jobs)]
    check_runs(jobs, configs, line, grid.own)


@pytest.mark.parametrize("doors", [(train, "experiment=demo", LOST, "-m"), (pathssl, "plan", "experiment=demo", LOST)])
def test_a_baseline_that_is_no_arm_is_refused_before_anything_starts(doors, tmp_path):
    done = doors[0](*doors[1:], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1] == (
        "report.baseline=teachr=m0.98 is no arm of the study demo, whose arms are teacher=m0.98, teacher=m0.99. "
        "Did you mean teacher=m0.98? Nothing was started."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shared", [["model=vits8"], ["seed=4,5"], ["data=folder", "data.path=/slides"]])
def test_what_all_arms_share_chooses_none_of_them(shared, tmp_path):
    refuse(*shared, output_dir=tmp_path)  # the baseline of the file, whose arms have longer names now
    with pytest.raises(UserError, match=r"teachr=m0\.98 is no arm .* whose arms are teacher=m0\.98, teacher=m0\.99\."):
        refuse(*shared, LOST, output_dir=tmp_path)


@pytest.mark.parametrize(
    "part", ["teacher=m0.99,m0.996", "teacher=m0.99", "model=vits16,vits8", "optim.base_lr=1e-3,1e-4"]
)
def test_who_types_arms_may_leave_the_baseline_out(part, tmp_path):
    refuse(part, LOST, output_dir=tmp_path)


def test_a_baseline_that_ran_before_is_one(tmp_path):
    run = tmp_path / "demo" / "teachr=m0.98" / "seed0"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 0")
    refuse(LOST, output_dir=tmp_path)


def a_finished_run(root, line, **changes) -> Path:
    """The first of the `-m` line's, with these train settings."""
    jobs = read_grid(line).jobs()
    (config, *_), *_ = compose_runs(jobs[:1])
    run = root / run_folder(config, arm_name(jobs[0]))
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"train": config["train"] | changes}))
    numbers = {"step": 4, "total_steps": 4, "patches_seen": 64, "host": None, "job_id": None, "error": None}
    write_status(run, "finished", **numbers)
    return run


LINE = ["experiment=demo", "hydra/launcher=local", "train.patches=64"]


@pytest.mark.parametrize("door", [(train, "-m"), (pathssl, "plan")])
def test_a_folder_with_a_run_of_another_config_is_refused_before_anything_starts(door, tmp_path):
    run = a_finished_run(tmp_path, LINE, patches=128)
    done = door[0](*door[1:], *LINE, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "", done.stdout + done.stderr
    assert f"{run.relative_to(tmp_path)} holds a run of another config" in done.stderr
    assert "train.patches: 128 there, 64 here" in done.stderr
    assert [path.parent for path in tmp_path.rglob("status.json")] == [run]


def test_a_finished_run_of_the_same_config_is_done(tmp_path):
    a_finished_run(tmp_path, LINE)
    done = pathssl("plan", *LINE, cwd=tmp_path)
    assert done.returncode == 0 and "1 more have finished or are under way" in done.stdout, done.stderr
