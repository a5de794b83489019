"""The arms of a `-m` line, and the baseline that they are to be compared with."""

import pytest
from programs import pathssl, train

from pathssl.errors import UserError
from pathssl.launch.grid import compose_runs, read_grid, refuse_lost_baseline

LOST = "report.baseline='teachr=m0.98'"


def refuse(*typed, output_dir):
    line = ["experiment=demo", f"output_dir={output_dir}", *typed]
    grid = read_grid(line)
    jobs = grid.jobs()
    ((config, _),) = compose_runs(jobs[:1])
    refuse_lost_baseline(jobs, config, line, grid.own)


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
