"""PCam, CoNSeP, MoNuSAC and TP53 in one run, as it is typed: load, split check, features, every protocol that fits, the report."""

import csv
import json

import pytest
from miniatures_consep import consep
from miniatures_monusac import monusac
from miniatures_pcam import COUNTS, pcam
from miniatures_tp53 import tcga, write_labels
from programs import pathssl, train

from pathssl.probe_records import read_predictions, read_probes
from pathssl.records import find_runs, read_json

# Of each what fits it, on what it is scored and how many samples that has.
OF_IMAGES, OF_MASKS = ("knn", "linear", "few_shot", "eva", "eva_10shot"), ("seg_linear", "seg_conv")
TASKS = {
    "pcam": (OF_IMAGES, "test", 30),
    "pcam_10shot": (OF_IMAGES, "test", 30),
    "consep": (OF_MASKS, "val", 4),
    "monusac": (OF_MASKS, "val", 6),
    "tp53": ((*OF_IMAGES, "slide_abmil"), "test", 2),
}


def compact(value) -> str:
    return json.dumps(value).replace('"', "")


@pytest.mark.slow
def test_each_passes_through_every_protocol_into_the_report(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PATHSSL_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("PATHSSL_TCGA", str(tmp_path / "tcga"))
    pcam(tmp_path / "datasets" / "pcam", compressed=True)
    consep(tmp_path / "datasets" / "consep")
    monusac(tmp_path / "datasets" / "monusac")
    cases = tcga(tmp_path / "tcga")
    write_labels(tmp_path / "datasets/tp53/labels.csv", [(case, "wm"[k % 2]) for k, case in enumerate(cases)])

    protocols = [*OF_IMAGES, *OF_MASKS, "slide_abmil"]
    line = [o for o in small if not o.startswith(("task.", "model."))]
    line += [f"task=[{','.join(TASKS)}]", f"probe=[{','.join(protocols)}]", "train.checkpoint_every=1"]
    line += ["unsupervised.patches=128", "robustness.stain=[]", "probe.few_shot.draws=5", "probe.few_shot.shots=[1]"]
    line += [f"probe.{name}.{setting}" for name in ("eva", "eva_10shot") for setting in ("steps=20", "runs=2")]
    line += [f"probe.{name}.{setting}" for name in OF_MASKS for setting in ("steps=5", "runs=1", "checks=1")]
    line += ["probe.slide_abmil.epochs=3", *(f"task.{name}.image_px=32" for name in TASKS)]
    line += [f"task.{name}.counts={compact(COUNTS)}" for name in ("pcam", "pcam_10shot")]
    line += [
        "task.pcam_10shot.shots=5",
        "task.consep.counts={train: 6, val: 4}",
        "task.monusac.counts={train: 8, val: 6}",
    ]
    line += ["task.consep.crop_px=50", "task.monusac.crop_px=32", "task.tp53.patches=3", "task.tp53.mpp=1.0"]
    done = train(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    (run,) = find_runs(tmp_path / "outputs" / "small")
    seen = {name: of["images"]["seen_mpp"] for name, of in read_json(run / "tasks.json").items()}
    assert seen == {
        "pcam": [2.916] * 2,
        "pcam_10shot": [2.916] * 2,
        "consep": [0.3906] * 2,
        "monusac": [0.25] * 2,
        "tp53": [1.0] * 2,
    }
    found = {(probe["step"], probe["task"]): probe["results"] for probe in read_probes(run)}
    assert set(found) == {(step, name) for step in (0, 8) for name in TASKS}
    for name, (fitting, split, count) in TASKS.items():
        for protocol in protocols:
            numbers = [value for key, value in found[8, name].items() if key.startswith(f"{protocol}/{split}/")]
            assert bool(numbers) == (protocol in fitting) and all(0 <= value <= 1 for value in numbers), (
                name,
                protocol,
            )
        assert len(read_predictions(run, 8, name)["ids"]) == count

    done = pathssl("report", "outputs/small", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = tmp_path / "outputs" / "small" / "report"
    page, (row,) = (report / "index.html").read_text(), csv.DictReader((report / "runs.csv").open())
    for name, (fitting, split, _) in TASKS.items():
        metric = "dice" if fitting is OF_MASKS else "balanced_accuracy"
        for protocol in {*fitting} - {"few_shot"}:
            key = f"probe/{name}/{protocol}/{split}/{metric}"
            assert float(row[key]) == pytest.approx(found[8, name][key.split("/", 2)[2]], abs=1e-4)
        shown = "linear segmentation" if fitting is OF_MASKS else "linear"
        assert f"({name.replace('_', ' ')}, {shown}, {split})" in page
