"""Whether what runs would read is there, before the first begins."""

import pytest
from programs import pathssl, train

from pathssl.errors import UserError
from pathssl.identity import arm_name
from pathssl.launch.grid import compose_runs, read_grid
from pathssl.launch.paths import check_paths
from pathssl.records import write_status

LINE = ["scale=tiny", "seed=0,1", "data=folder"]
NOTHING = "There is nothing at data.path=/none: give a folder of slides, one slide, or a glob like slides/*.svs."


def check(*typed, refuse=True):
    jobs = read_grid([*LINE, *typed]).jobs()
    check_paths(jobs, [config for config, *_ in compose_runs(jobs)], refuse=refuse)


def test_slides_that_are_nowhere_are_told_once_and_nothing_begins(tmp_path):
    done = train("-m", *LINE, "data.path=/none", "hydra/launcher=local", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (2, "", NOTHING)
    assert not list(tmp_path.iterdir())


def test_what_is_elsewhere_can_be_planned_here(tmp_path):
    done = pathssl("plan", *LINE, "data.path=/none", "hydra/launcher=local", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.count(NOTHING) == 1


def test_what_is_there_or_cannot_be_asked_passes(cohort):
    check(f"data.path={cohort}", f"data.manifest={cohort}/manifest.csv", "task=[synthetic,synthetic_nuclei]")
    check("data.path=https://host/slides", "data.manifest=https://host/manifest.csv")
    check(
        f"data.path='{cohort}/slides/*.tif'",
        "task=[slides]",
        "task.slides.path='s3://bucket/*.svs'",
        "task.slides.labels=x",
    )


def test_the_manifest_and_a_dataset_say_what_a_single_run_says(cohort, tmp_path):
    with pytest.raises(UserError, match=r"^There is no manifest /none\.csv: "):
        check(f"data.path={cohort}", "data.manifest=/none.csv")
    line = [f"data.path={cohort}", "task=[folder]", f"task.folder.path={tmp_path}/none"]
    alone = train(*LINE[:1], *LINE[2:], *line, f"output_dir={tmp_path}", cwd=tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}/none") as error:
        check(*line)
    assert alone.returncode == 2 and str(error.value) in alone.stderr


def test_the_data_s_own_advice_is_added():
    with pytest.raises(UserError, match=r"data\.path=/none: [\s\S]*\nTCGA's slides are open access"):
        check("data=tcga", "data.path=/none")


def test_where_runs_are_to_be_elsewhere_it_is_a_warning(capsys):
    check("data.path=/none", refuse=False)
    said = capsys.readouterr().err
    assert said.count(NOTHING) == 1 and said.startswith("As this machine sees it, and where the runs will be")


def test_arms_may_have_slides_of_their_own(cohort):
    with pytest.raises(UserError, match=r"data\.path=/none"):
        check(f"data.path={cohort},/none")


def test_finished_runs_need_no_slides(tmp_path):
    typed = ["data.path=/none", f"output_dir={tmp_path}"]
    jobs = read_grid([*LINE, *typed]).jobs()
    numbers = {"step": 4, "total_steps": 4, "patches_seen": 64, "host": None, "job_id": None, "error": None}
    for seed in (0, 1):
        with pytest.raises(UserError, match=r"data\.path=/none"):
            check(*typed)
        run = tmp_path / "scratch" / arm_name(jobs[seed]) / f"seed{seed}"
        run.mkdir(parents=True)
        write_status(run, "finished", **numbers)
    check(*typed)
