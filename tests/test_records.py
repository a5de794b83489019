from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pathssl import probe_records, records
from pathssl.errors import UserError


def status(**changes):
    settings = {"step": 3, "total_steps": 10, "patches_seen": 96, "host": "node1", "job_id": None, "error": None}
    return settings | changes


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [{"step": 0, "patches_seen": 0, "train/loss": 7.25}, {"step": 1, "patches_seen": 32, "train/loss": 7.0}]
    for row in rows:
        records.append_metrics(tmp_path, row)
    assert records.read_metrics(tmp_path) == rows


def test_numpy_scalars_are_written_as_numbers_and_nan_and_infinity_as_null(tmp_path):
    row = {"step": np.int64(1), "patches_seen": 2, "a": np.float32(0.5), "b": float("nan"), "c": np.float64("inf")}
    records.append_metrics(tmp_path, row)
    assert records.read_metrics(tmp_path) == [{"step": 1, "patches_seen": 2, "a": 0.5, "b": None, "c": None}]


def test_a_row_without_its_step_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(KeyError, match="patches_seen"):
        records.append_metrics(tmp_path, {"step": 1, "train/loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_half_last_line_is_not_read_and_cut_away_before_the_run_goes_on(tmp_path):
    records.append_metrics(tmp_path, {"step": 1, "patches_seen": 8})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "patches')
    assert [row["step"] for row in records.read_metrics(tmp_path)] == [1]
    records.cut_metrics(tmp_path, 5)
    records.append_metrics(tmp_path, {"step": 2, "patches_seen": 16})
    assert [row["step"] for row in records.read_metrics(tmp_path)] == [1, 2]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(UserError, match="line 2"):
        records.read_metrics(tmp_path)


@pytest.mark.parametrize(("step", "left"), [(-1, []), (10, [0, 5, 10]), (12, [0, 5, 10]), (99, [0, 5, 10, 15])])
def test_cut_keeps_the_steps_up_to_the_checkpoint(tmp_path, step, left):
    for k in (0, 5, 10, 15):
        records.append_metrics(tmp_path, {"step": k, "patches_seen": 2 * k, "x": None})
    records.cut_metrics(tmp_path, step)
    assert [row["step"] for row in records.read_metrics(tmp_path)] == left
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_cut_of_a_run_that_has_written_nothing_does_nothing(tmp_path):
    records.cut_metrics(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_the_status_is_replaced_as_a_whole_and_says_when(tmp_path):
    assert records.read_status(tmp_path) is None
    for state in records.STATES:
        records.write_status(tmp_path, state, **status(error="Traceback\nValueError: x" if state == "failed" else None))
    read = records.read_status(tmp_path)
    assert read.pop("updated").endswith("+00:00")
    assert read == {
        "state": "failed",
        **status(error="Traceback\nValueError: x"),
        "started": None,
        "starts": 0,
        "timeouts": 0,
    }
    records.write_status(tmp_path, "running", **status(), started="then", starts=2)
    records.write_status(tmp_path, "finished", **status())
    read = records.read_status(tmp_path)
    assert (read["started"], read["starts"]) == ("then", 2)  # kept by whoever does not know them


def test_a_state_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    with pytest.raises(ValueError, match=r"'done' is unknown.*finished"):
        records.write_status(tmp_path, "done", **status())


def test_a_folder_that_has_nothing_yet_reads_as_empty(tmp_path):
    assert probe_records.read_rows(tmp_path) == []
    assert records.find_runs(tmp_path) == []
    assert records.find_runs(tmp_path / "nowhere") == []


def test_runs_are_found_by_their_config_and_sorted_as_people_count(tmp_path):
    names = ["t=m0.99/seed10", "t=m0.99/seed2", "t=m0.9/seed0", "batch=b128/seed0", "batch=b64/seed0"]
    strangers = ["t=m0.9/seed0/wandb/run-1/files", "report/extra", "t=m0.9/seed_old"]
    for name in [*names, *strangers]:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "t=m0.9/seed1").mkdir()
    found = [str(run.relative_to(tmp_path)) for run in records.find_runs(tmp_path)]
    assert found == ["batch=b64/seed0", "batch=b128/seed0", "t=m0.9/seed0", "t=m0.99/seed2", "t=m0.99/seed10"]
    assert records.find_runs(tmp_path / "t=m0.9/seed0") == [tmp_path / "t=m0.9/seed0"]
    assert len(records.find_runs(tmp_path / "t=m0.99")) == 2
    assert records.arm_of(tmp_path / "t=m0.99/seed10") == "t=m0.99"
    assert records.seed_of(tmp_path / "t=m0.99/seed10") == 10


def test_a_folder_that_is_no_run_has_no_seed(tmp_path):
    with pytest.raises(UserError, match="seed<k>"):
        records.seed_of(tmp_path / "latest")


def test_tasks_are_added_to_those_that_are_there_also_at_once(tmp_path):
    names = [f"task{k}" for k in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: records.write_tasks(tmp_path, {name: {"of": name}}), names))
    assert records.read_json(tmp_path / "tasks.json") == {name: {"of": name} for name in names}
    records.write_tasks(tmp_path, {"task3": {"of": "another"}})
    assert records.read_json(tmp_path / "tasks.json") == {name: {"of": name} for name in names} | {
        "task3": {"of": "another"}
    }
    written = (tmp_path / "tasks.json").stat().st_mtime_ns
    records.write_tasks(tmp_path, {})
    assert (tmp_path / "tasks.json").stat().st_mtime_ns == written


def test_coverage_is_replaced_as_a_whole_and_says_by_which_step(tmp_path):
    assert records.read_coverage(tmp_path) is None
    for step in (4, 8):
        records.write_coverage(tmp_path, step, {"total": {"patches": 8 * step}})
    assert records.read_coverage(tmp_path) == {"step": 8, "total": {"patches": 64}}
    assert [path.name for path in tmp_path.iterdir()] == ["coverage.json"]
