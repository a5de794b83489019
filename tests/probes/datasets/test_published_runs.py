"""All published datasets of images in one run, as it is typed: load, split check, features, every protocol of images, the report."""

import csv
import json

import miniatures
import pytest
from programs import pathssl, train

from pathssl.probe_records import read_predictions, read_probes
from pathssl.records import find_runs

PROTOCOLS = ("knn", "linear", "few_shot", "eva", "eva_2024")
# Of each the miniature, what it has of each split as counts, and on what it is scored.
SMALL = {"size": (96, 72)}
CRC = {split: dict.fromkeys(miniatures.CRC_CLASSES, n) for split, n in (("train", 6), ("val", 3))}
BRACS = {split: dict.fromkeys(miniatures.BRACS_CLASSES, n) for split, n in (("train", 6), ("val", 3), ("test", 3))}
DATASETS = {
    "bach": (miniatures.bach, "bach", SMALL, {"train": 268, "val": 132}, "val", 132),
    "crc": (miniatures.crc, "crc", {}, CRC, "val", 27),
    "mhist": (miniatures.mhist, "mhist", {}, {"train": {"SSA": 8, "HP": 12}, "test": {"SSA": 4, "HP": 6}}, "val", 10),
    "breakhis": (miniatures.breakhis, "breakhis", SMALL, None, "val", 14),
    "bracs": (miniatures.bracs, "bracs", {"sizes": ((129, 89), (70, 113), (231, 204))}, BRACS, "test", 21),
    "gleason": (miniatures.gleason, "gleason_arvaniti", SMALL, {"train": 48, "val": 16, "test": 16}, "test", 16),
}


@pytest.mark.slow
def test_each_passes_through_every_protocol_into_the_report(small, tmp_path, monkeypatch):
    line = [o for o in small if not o.startswith(("task.", "model."))]
    line += [f"task=[{','.join(DATASETS)}]", f"probe=[{','.join(PROTOCOLS)}]", "train.checkpoint_every=1"]
    line += ["unsupervised.patches=128", "robustness.stain=[]", "probe.few_shot.draws=5"]
    line += [f"probe.{eva}.{setting}" for eva in ("eva", "eva_2024") for setting in ("steps=20", "runs=2")]
    for name, (write, folder, size, counts, _, _) in DATASETS.items():
        write(tmp_path / "datasets" / folder, **size)
        line += [f"task.{name}.image_px=32", f"task.{name}.counts={json.dumps(counts).replace(chr(34), '')}"]
    monkeypatch.setenv("PATHSSL_DATASETS", str(tmp_path / "datasets"))
    done = train(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    (run,) = find_runs(tmp_path / "outputs" / "small")
    found = {(probe["step"], probe["task"]): probe["results"] for probe in read_probes(run)}
    assert set(found) == {(step, name) for step in (0, 8) for name in DATASETS}
    for name, (*_, split, count) in DATASETS.items():
        results = found[8, name]
        for protocol in PROTOCOLS:
            numbers = [value for key, value in results.items() if key.startswith(f"{protocol}/{split}/")]
            assert numbers and all(0 <= value <= 1 for value in numbers), (name, protocol)
        assert len(read_predictions(run, 8, name)["ids"]) == count

    done = pathssl("report", "outputs/small", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = tmp_path / "outputs" / "small" / "report"
    page, (row,) = (report / "index.html").read_text(), csv.DictReader((report / "runs.csv").open())
    for name, (*_, split, _) in DATASETS.items():
        assert f"({name}, linear, {split})" in page
        for protocol in PROTOCOLS:
            shots = "1shot_" * (protocol == "few_shot")
            key = f"probe/{name}/{protocol}/{split}/{shots}balanced_accuracy"
            assert float(row[key]) == pytest.approx(found[8, name][key.split("/", 2)[2]], abs=1e-4)
