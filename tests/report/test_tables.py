import pytest
import yaml
from fake_study import DEMO, write_study

from pathssl import records
from pathssl.report import tables
from pathssl.report.study import read_study


def edit_config(run, change):
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def test_only_the_settings_that_differ_are_shown_and_no_bookkeeping(tmp_path):
    arms = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.0}
    folder = write_study(tmp_path / "demo", arms, seeds=2, report=DEMO)
    for run in records.find_runs(folder):

        def change(config, run=run):
            config["data"] |= {"workers": records.seed_of(run), "path": str(run)}
            config["logger"] = {"name": str(run)}

        edit_config(run, change)
    expected = {"teacher.momentum": {"teacher=m0.9": "0.9", "teacher=m0.99": "0.99"}}
    assert tables.config_differences(read_study(folder)) == expected


def test_a_setting_in_which_the_seeds_of_an_arm_disagree_shows_all_its_values(tmp_path):
    folder = write_study(tmp_path / "demo", {"a=1": 0.0, "a=2": 0.0}, seeds=2)
    edit_config(folder / "a=1/seed1", lambda config: config["model"].update(name=None))
    differences = tables.config_differences(read_study(folder))
    assert differences["model.name"] == {"a=1": "vit_nano / null", "a=2": "vit_nano"}


def test_flatten_names_every_leaf():
    config = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}, "f": None}
    assert tables.flatten(config) == {"a.b": 1, "a.c.d": [1, 2], "e": {}, "f": None}


def test_throughput_is_the_median_over_a_runs_lines_and_the_mean_over_runs(tmp_path):
    folder = write_study(tmp_path / "demo", {"a=1": 0.0}, seeds=2, lines=5)
    for run, speeds in zip(records.find_runs(folder), ([10, 20, 90], [30, 40, 41]), strict=True):
        records.cut_metrics(run, -1)
        for k, speed in enumerate(speeds):
            row = {"step": k, "patches_seen": k, "time_s": 1800.0 * k, "train/patches_per_s": speed}
            records.append_metrics(run, row | {"train/data_wait": 0.1})
    [row] = tables.throughput(read_study(folder))
    assert row == {
        "arm": "a=1",
        "patches_per_s": 30.0,
        "data_wait": pytest.approx(0.1),
        "hours": 1.0,
        "hosts": "node1",
    }


def test_runs_with_the_same_slides_share_a_row(tmp_path):
    folder = write_study(tmp_path / "demo", {"a=1": 0.0, "a=2": 0.0, "a=3": 0.0}, seeds=2)
    for run in records.find_runs(folder):
        slides = 7 if records.arm_of(run) == "a=3" else 24
        (run / "data.json").write_text(f'{{"slides": {slides}}}')
    rows = tables.data_rows(read_study(folder))
    assert [(row["data"]["slides"], row["arms"]) for row in rows] == [(24, ["a=1", "a=2"]), (7, ["a=3"])]
