"""Whoever reads a number of a task that was trained on reads that it was; copies between a task's own splits are told."""

import csv
import json
import re

import pytest
from fake_study import ACCURACY, DEMO, write_study
from test_nulls import add_predictions

from pathssl import records
from pathssl.report.leaks import leaks_text
from pathssl.report.noise import measure_noise, noise_text
from pathssl.report.write import write_report

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
    write_overlaps(records.find_runs(folder)[0], ("synthetic", "case", "case7", ["a.png", "b.png"]))
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


def test_where_arms_differ_the_rows_are_marked_and_charts_name_the_arms(tmp_path):
    arms = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.1, "teacher=m0.999": 0.1}
    folder = write_study(tmp_path / "demo", arms, report=DEMO, checkpoints=1, pictures=False)
    for run in records.find_runs(folder):
        add_predictions(run, 0.9, records.seed_of(run))
    write_overlaps(records.find_runs(folder / "teacher=m0.99")[0], ("synthetic", "case", "case7", ["a.png"]))
    write_overlaps(records.find_runs(folder / "teacher=m0.999")[0], ("synthetic", "weights", "released", []))
    report = write_report(folder).parent
    page, text = (report / "index.html").read_text(), (report / "report.md").read_text()
    assert f"{MARK} in teacher=m0.99, teacher=m0.999." in re.search(r'class="headline">[^<]*', page)[0]
    captions = re.findall(r"<caption>.*</caption>", page)
    assert not any(MARK in caption for caption in captions)
    sections = {re.search('aria-labelledby="([^"]*)', part)[1]: part for part in page.split("<section ")[1:]}
    marked_row = rf'<th scope="row">(?:(?!</th>).)*<span class="tag">{MARK}</span></th>'
    assert {id: len(re.findall(marked_row, sections[id])) for id in ("arms", "nulls")} == {"arms": 2 * 2, "nulls": 2}
    assert sections["curves"].count("m0.99, teacher=m0.999</span></figcaption>") == 3
    assert len(re.findall(rf"^\| teacher=m0.99(?:9)? — {MARK} \|", text, re.MULTILINE)) >= 2 * 3
    for name in ("arms.csv", "nulls.csv"):
        with open(report / name, newline="") as file:
            rows = [
                row
                for row in csv.DictReader(file)
                if row["metric"] == ACCURACY and row["arm" if name[0] == "a" else "row"] in arms
            ]
        assert [row["tested_on_training"] for row in rows] == ["False", "True", "True"]
    assert f"Task synthetic is {MARK} in teacher=m0.99, teacher=m0.999: 1 image of it" in text
    assert leaks_text({"tp53": [{"kind": "weights", "name": "released", "images": []}]}) == [
        f"Task tp53 is {MARK}: the weights released were trained on its images, as leakage.trained_on says. "
        "Its numbers are marked and say little; leakage.json has all."
    ]
