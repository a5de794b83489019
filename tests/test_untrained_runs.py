"""Runs of zero patches: what they begin with is probed, as an arm beside trained ones, through every verb."""

import json
import shutil

import pytest
from programs import pathssl, train

from pathssl.cli import compose
from pathssl.launch.plan import plan_of, where_of
from pathssl.launch.plan_table import rows
from pathssl.probe_records import read_probes, read_rows
from pathssl.records import find_runs, read_metrics, read_status


@pytest.fixture(scope="module")
def study(request, tmp_path_factory):
    """A trained run, and its last weights as an arm that is not trained; with the overrides of the latter."""
    folder = tmp_path_factory.mktemp("study")
    small = [o.replace("OUT", str(folder)) for o in request.getfixturevalue("smallest")]
    done = train(*small, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (trained,) = find_runs(folder / "outputs" / "small")
    shutil.copy(
        sorted(trained.glob("checkpoints/step_*/teacher.safetensors"))[-1], weights := folder / "weights.safetensors"
    )
    line = [*small, "train.patches=0", "init=file", f"init.path={weights}", "logger=wandb_offline"]
    done = train(*line, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, trained, line, done.stdout


@pytest.fixture(scope="session")
def smallest(cohort):
    from conftest import COHORT

    return [
        *[f"{place}.cohort.{key}={value}" for place in ("data", "task.synthetic") for key, value in COHORT.items()],
        *(f"cache_dir={cohort.parent / 'cache'}", "output_dir=OUT/outputs", "study=small", "train.patches=64"),
        *("batch.size=8", "train.checkpoint_every=1", "train.log_every=1", "unsupervised.patches=64", "probe=[knn]"),
        *("resolution.global_px=32", "resolution.local_px=16", "resolution.patch_px=40", "augmentation.local_crops=2"),
        *("model.args.embed_dim=32", "model.args.depth=1", "model.args.num_heads=2", "objective.out_dim=64"),
    ]


def the_other(folder, trained):
    (run,) = [run for run in find_runs(folder / "outputs" / "small") if run != trained]
    return run


@pytest.mark.slow
def test_step_0_is_what_the_weights_gave_where_they_were_trained(study):
    folder, trained, _, said = study
    run = the_other(folder, trained)
    (row,), last = read_metrics(run), read_rows(trained)[-1]
    mine = {key: value for key, value in row.items() if key.startswith(("probe/", "unsupervised/"))}
    assert row["step"] == row["patches_seen"] == 0 and last["step"] == 8
    nulls = {key for key in mine if "random_weights" in key or "colour_histogram" in key}
    assert nulls and {key: value for key, value in mine.items() if key not in nulls} == pytest.approx(
        {key: value for key, value in last.items() if key.startswith(("probe/", "unsupervised/"))}
    )
    assert [probe["step"] for probe in read_probes(run)] == [0]
    assert "nothing is trained" in said and read_status(run)["state"] == "finished"


@pytest.mark.slow
def test_the_same_command_finds_it_finished_and_one_that_was_killed_is_probed_again(study):
    folder, trained, line, _ = study
    run = the_other(folder, trained)
    again = train(*line, cwd=folder)
    assert again.returncode == 0 and "is finished; nothing to do" in again.stdout
    before = read_metrics(run)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": "preempted"}))
    (run / "metrics.jsonl").write_text("")  # as of one that died between its checkpoint and its line
    again = train(*line, cwd=folder)
    assert again.returncode == 0, again.stdout + again.stderr
    (row,) = read_metrics(run)
    assert {k: v for k, v in row.items() if "time" not in k} == {k: v for k, v in before[0].items() if "time" not in k}
    assert read_status(run)["state"] == "finished"


@pytest.mark.slow
def test_status_report_replay_and_export_take_it(study):
    folder, trained, _, _ = study
    run = the_other(folder, trained)
    said = pathssl("status", "outputs/small", cwd=folder)
    assert said.returncode == 0 and "0 of 0" in said.stdout and "2 finished" in said.stdout
    said = pathssl("report", "outputs/small", cwd=folder)
    assert said.returncode == 0, said.stderr
    page = (folder / "outputs/small/report/index.html").read_text()
    assert "arms that are not trained at step 0" in page and "Training moved" in page and "on average" not in page
    said = pathssl("replay", run, "--step", "1", cwd=folder)
    assert said.returncode == 2 and "train.patches=0" in said.stderr
    said = pathssl("export", run, "--to", "out", cwd=folder)
    assert said.returncode == 0, said.stderr
    assert "as it was loaded" in (folder / "out" / "README.md").read_text()


@pytest.mark.slow
def test_a_plan_counts_its_probes_and_asks_for_no_steps(study):
    line = [o for o in study[2] if not o.startswith(("study=", "logger"))]
    jobs = [[*line, "study=next", f"seed={seed}"] for seed in (0, 1)]
    plan = plan_of(
        jobs,
        [compose(job) for job in jobs],
        where_of({"parallel": 1, "processes": 1}, compose(line)["train"]),
        may_guess=True,
    )
    found = {row["what"]: row for row in rows(plan)}
    assert found["steps"]["value"] == 0 and not any(what.startswith("time a step") for what in found)
    assert found["time of 2 probes"]["value"] > 0 and found["wall time"]["value"] > 0


def test_a_budget_of_less_than_a_batch_is_still_refused(smallest, tmp_path):
    line = [o.replace("OUT", str(tmp_path)) for o in smallest if not o.startswith("train.patches")]
    done = train(*line, "train.patches=7", cwd=tmp_path)
    assert done.returncode == 2 and "or 0: nothing is trained" in done.stderr
