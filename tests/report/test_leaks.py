"""Whoever reads a number of a task that was trained on reads that it was; copies between a task's own splits are told."""

import csv
import json
import re

import pytest
from fake_study import ACCURACY, DEMO, write_study
from test_nulls import add_predictions

from pathssl import records
from pathssl.report.noise import measure_noise, noise_text
from pathssl.report.page import write_report

MARK = "tested on what was trained on"


def write_overlaps(run, *overlaps):
    keys = ("task", "kind", "name", "images")
    found = [dict(zip(keys, one, strict=True)) for one in overlaps]
    (run / "leakage.json").write_text(json.dumps({"compared": {}, "overlaps": found}))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(
        tmp_path_factory.mktemp("x") / "demo", {"teacher=m0.9": 0.0, "teacher=m0.99": 0.1}, report=DEMO
    )
    for run in records.find_runs(folder):
        add_predictions(run, 0.9, records.seed_of(run))
    write_overlaps(
        records.find_runs(folder)[-1],
        ("synthetic", "case", "case7", ["a.png", "b.png"]),
        ("synthetic", "split", "train c.png", ["d.png", "e.png"]),
        ("synthetic", "split", "val f.png", ["e.png"]),
    )
    write_report(folder)
    return folder


def test_the_page_marks_answer_tables_nulls_and_curves(study):
    page = (study / "report" / "index.html").read_text()
    assert re.search(rf'class="headline">[^<]*, {MARK}\.<', page)
    assert re.search(rf'class="measure">.*<span class="tag">{MARK}', page)
    captions = re.findall(r"<(?:fig)?caption>(?:(?!caption>).)*</(?:fig)?caption>", page)
    of_task = [caption for caption in captions if "synthetic" in caption]
    assert len(of_task) >= 6 and all(MARK in caption for caption in of_task)  # 2 arms' tables, nulls, 3 curves
    assert not any(MARK in caption for caption in captions if caption not in of_task)


def test_files_and_noise_mark_them_too(study):
    with open(study / "report" / "nulls.csv", newline="") as file:
        assert {row["tested_on_training"] for row in csv.DictReader(file)} == {"True"}
    text = (study / "report" / "report.md").read_text()
    marked = re.findall(rf"^(\*\*|## |\| )balanced.*{MARK}", text, re.MULTILINE | re.IGNORECASE)
    assert marked == ["**", "## ", "## ", "| "]  # the answer, two metrics, nulls
    said = noise_text(measure_noise(study, [ACCURACY, "unsupervised/rankme"], [0.01]))
    assert f"{ACCURACY} ({MARK})" in said and "unsupervised/rankme\n" in said


def test_copies_between_splits_are_told(study):
    told = (
        "Task synthetic has copies between its own splits: 2 images in one split show what 2 images in another show, "
        "the first d.png and train c.png."
    )
    for name in ("index.html", "report.md"):
        assert told in (study / "report" / name).read_text()
