"""W&B mirrors metrics.jsonl: what its own client wrote offline, read back with its own message types."""

import json
import shutil
import struct
import time

from wandb.proto import wandb_internal_pb2

from pathssl.records import read_metrics
from pathssl.training.tracking import Tracker

SETTINGS = {"project": "pathssl", "entity": None, "mode": "offline"}
ROWS = [
    {"step": 0, "patches_seen": 0, "probe/synthetic/linear/test/balanced_accuracy": 0.5},
    {"step": 10, "patches_seen": 640, "train/loss": 6.25},
]


def offline_records(folder):
    """What `_records` finds once W&B's writer, a process of its own, has written the run's end."""
    deadline = time.monotonic() + 30
    while True:
        records = list(_records(folder))
        if any(record.HasField("exit") for record in records):
            return records
        assert time.monotonic() < deadline, "W&B never wrote the run's end"
        time.sleep(0.2)


def _records(folder):
    """The records of the run's .wandb file: a LevelDB log (32 KiB blocks; crc, length, type) of protobuf messages."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content, position, whole = path.read_bytes(), 7, b""
    assert content.startswith(b":W&B")
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # the rest of a block that no header fits into
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # full, or last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def flat_config(records) -> dict:
    """The top of W&B's config after everything that was written to it."""
    config = {}
    for record in records:
        updates = (
            [record.run.config] if record.HasField("run") else [record.config] if record.HasField("config") else []
        )
        config |= {item.key: json.loads(item.value_json) for update in updates for item in update.update if item.key}
    return config


def summary(records) -> dict:
    """W&B's summary of the run."""
    items = [item for record in records if record.HasField("summary") for item in record.summary.update]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(records) -> list[dict]:
    """The rows that W&B has, without its own columns."""
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]


def test_the_mirror_holds_the_rows_the_config_and_the_step_metric(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = tmp_path / "study" / "teacher=m0.99" / "seed0"
    run.mkdir(parents=True)
    config = {"teacher": {"momentum": 0.99}, "seed": 0}
    leak = {"task": "synthetic", "kind": "case", "name": "case7", "images": ["a.png"]}
    (run / "leakage.json").write_text(json.dumps({"compared": {}, "overlaps": [leak]}))
    choices = {"teacher": "m0.99", "optim.base_lr": 0.001, "seed": 0}
    tracker = Tracker(run, wandb=SETTINGS, config=config, choices=choices, name="teacher=m0.99/seed0", group="study")
    for row in ROWS:
        tracker.log(row)
    tracker.close()
    assert read_metrics(run) == ROWS
    records = offline_records(run)
    assert history(records) == ROWS
    assert {key: value for key, value in flat_config(records).items() if key in choices} == choices
    assert flat_config(records)["tested_on_training"] == ["synthetic"]
    assert summary(records)["probe/synthetic/linear/test/balanced_accuracy"] == 0.5  # by which the sweep's page ranks
    started = next(record.run for record in records if record.HasField("run"))
    assert (started.project, started.run_group, started.display_name) == ("pathssl", "study", "teacher=m0.99/seed0")
    settings = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in started.config.update}
    assert settings["config"] == config
    metrics = [record.metric for record in records if record.HasField("metric")]
    assert any(metric.glob_name == "*" and metric.step_metric == "patches_seen" for metric in metrics)


def test_a_resumed_run_keeps_its_id_and_another_folder_has_another(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    ids = {}
    for place in ("here", "there"):
        run = tmp_path / place / "study" / "arm" / "seed0"
        run.mkdir(parents=True)
        Tracker(run, wandb=SETTINGS, config={}, choices={}, name="n", group="g").close()
        ids[place] = next(record.run.run_id for record in offline_records(run) if record.HasField("run"))
        assert ids[place] == (run / "wandb_id.txt").read_text()
        shutil.rmtree(run / "wandb")
        Tracker(run, wandb=SETTINGS, config={}, choices={}, name="n", group="g").close()
        assert ids[place] == next(record.run.run_id for record in offline_records(run) if record.HasField("run"))
    assert ids["here"] != ids["there"]


def test_a_failing_mirror_costs_nothing_but_the_mirror(tmp_path, caplog, monkeypatch):
    import wandb

    def refuse(**_):
        raise wandb.Error("no such place")

    monkeypatch.setattr(wandb, "init", refuse)
    tracker = Tracker(tmp_path, wandb=SETTINGS, config={}, choices={}, name="n", group="g")
    for row in ROWS:
        tracker.log(row)
    tracker.close()
    assert read_metrics(tmp_path) == ROWS
    assert caplog.text.count("Weights & Biases failed (no such place)") == 1
