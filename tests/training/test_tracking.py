"""W&B mirrors metrics.jsonl; read back with W&B's own reader of its offline files."""

import json

from wandb.proto import wandb_internal_pb2
from wandb.sdk.internal.datastore import DataStore

from pathssl.records import read_metrics
from pathssl.training.tracking import Tracker

SETTINGS = {"project": "pathssl", "entity": None, "mode": "offline"}
ROWS = [
    {"step": 0, "patches_seen": 0, "probe/synthetic/linear/test/balanced_accuracy": 0.5},
    {"step": 10, "patches_seen": 640, "train/loss": 6.25},
]


def offline_records(folder):
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    store = DataStore()
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record


def test_the_mirror_holds_the_rows_the_config_and_the_step_metric(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = tmp_path / "study" / "teacher=m0.99" / "seed0"
    run.mkdir(parents=True)
    config = {"teacher": {"momentum": 0.99}, "seed": 0}
    tracker = Tracker(run, wandb=SETTINGS, config=config, name="teacher=m0.99/seed0", group="study")
    for row in ROWS:
        tracker.log(row)
    tracker.close(0)
    assert read_metrics(run) == ROWS
    records = list(offline_records(run))
    history = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert [{k: v for k, v in row.items() if not k.startswith("_")} for row in history] == ROWS
    started = next(record.run for record in records if record.HasField("run"))
    assert (started.project, started.run_group, started.display_name) == ("pathssl", "study", "teacher=m0.99/seed0")
    settings = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in started.config.update}
    assert settings["config"] == config
    metrics = [record.metric for record in records if record.HasField("metric")]
    assert any(metric.glob_name == "*" and metric.step_metric == "patches_seen" for metric in metrics)


def test_the_id_follows_from_the_folder_so_that_a_resumed_run_is_the_same(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    ids = []
    for place in ("here", "there"):
        run = tmp_path / place / "study" / "arm" / "seed0"
        run.mkdir(parents=True)
        tracker = Tracker(run, wandb=SETTINGS, config={}, name="n", group="g")
        tracker.close(0)
        ids.append(next(record.run.run_id for record in offline_records(run) if record.HasField("run")))
    assert ids[0] == ids[1]


def test_a_failing_mirror_costs_nothing_but_the_mirror(tmp_path, caplog, monkeypatch):
    import wandb

    def refuse(**_):
        raise wandb.Error("no such place")

    monkeypatch.setattr(wandb, "init", refuse)
    tracker = Tracker(tmp_path, wandb=SETTINGS, config={}, name="n", group="g")
    for row in ROWS:
        tracker.log(row)
    tracker.close(0)
    assert read_metrics(tmp_path) == ROWS
    assert caplog.text.count("Weights & Biases failed (no such place)") == 1
