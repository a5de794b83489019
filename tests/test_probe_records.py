import json

import numpy as np
import pytest

from pathssl import probe_records, records


def status(**changes):
    settings = {"step": 3, "total_steps": 10, "patches_seen": 96, "host": "node1", "job_id": None, "error": None}
    return settings | changes


def test_a_probe_keeps_its_results_and_its_predictions(tmp_path):
    predictions = {"ids": np.array(["a", "bé"]), "labels": np.array([0, 1]), "linear/test/scores": np.eye(2)}
    results = {"linear/test/balanced_accuracy": np.float64(0.5), "knn/test/auroc": float("nan")}
    path = probe_records.write_probe(
        tmp_path, step=1000, patches_seen=64000, task="synthetic", results=results, predictions=predictions, images=2
    )
    assert path == tmp_path / "probes/step_00001000/synthetic.json"
    assert json.loads(path.read_text()) == {
        "step": 1000,
        "patches_seen": 64000,
        "task": "synthetic",
        "images": 2,
        "results": {"linear/test/balanced_accuracy": 0.5, "knn/test/auroc": None},
    }
    read = probe_records.read_predictions(tmp_path, 1000, "synthetic")
    assert read.keys() == predictions.keys()
    assert all(np.array_equal(read[key], predictions[key]) for key in read)


def test_predictions_that_need_pickle_are_refused(tmp_path):
    with pytest.raises(TypeError, match="ids"):
        probe_records.write_probe(
            tmp_path, step=0, patches_seen=0, task="t", results={}, predictions={"ids": np.array(["a", 1], object)}
        )


def test_probe_files_fill_in_the_rows_of_the_log_and_win_over_them(tmp_path):
    key = "probe/synthetic/knn/test/balanced_accuracy"
    records.append_metrics(tmp_path, {"step": 0, "patches_seen": 0, key: 0.1, "unsupervised/odcorr": 0.5})
    records.append_metrics(tmp_path, {"step": 5, "patches_seen": 40, "train/loss": 3.0})
    probe = {"knn/test/balanced_accuracy": 0.2}
    probe_records.write_probe(tmp_path, step=10, patches_seen=80, task="synthetic", results=probe)
    probe_records.write_probe(tmp_path, step=0, patches_seen=0, task="synthetic", results=probe)
    probe_records.write_probe(tmp_path, step=0, patches_seen=0, task="unsupervised", results={"rankme": 9.0})
    assert probe_records.read_rows(tmp_path) == [
        {"step": 0, "patches_seen": 0, key: 0.2, "unsupervised/odcorr": 0.5, "unsupervised/rankme": 9.0},
        {"step": 5, "patches_seen": 40, "train/loss": 3.0},
        {"step": 10, "patches_seen": 80, key: 0.2},
    ]


def test_two_lines_of_one_step_become_one_row(tmp_path):
    records.append_metrics(tmp_path, {"step": 5, "patches_seen": 40, "train/loss": 3.0})
    records.append_metrics(tmp_path, {"step": 5, "patches_seen": 40, "unsupervised/rankme": 2.0})
    assert probe_records.read_rows(tmp_path) == [
        {"step": 5, "patches_seen": 40, "train/loss": 3.0, "unsupervised/rankme": 2.0}
    ]
