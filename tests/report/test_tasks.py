"""How large the tasks' images are shown, as runs recorded it."""

import json

from fake_study import write_study

from pathssl.records import find_runs
from pathssl.report.study import read_study
from pathssl.report.tasks import task_rows
from pathssl.report.write import write_report

BACH = {
    "source": "BACH in /x",
    "val_taken_from_train": False,
    "splits": {"train": {"samples": 268, "groups": None}, "val": {"samples": 132, "groups": None}},
    "images": {"shorter_side_px": [1536, 1536], "image_px": 224, "mpp": 0.42, "seen_mpp": [2.88, 2.88]},
}
MASKS = {
    "source": "masks",
    "val_taken_from_train": True,
    "splits": {name: {"samples": 10, "groups": 4} for name in ("train", "val", "test")},
    "images": {"crop_px": 250, "image_px": 224, "mpp": None, "seen_mpp": None},
}


def test_sizes_resolutions_and_what_flatters_are_shown_once_for_all_arms(tmp_path):
    folder = write_study(tmp_path / "mine", {"model=a": 0.0, "model=b": 0.0}, seeds=1)
    for run in find_runs(folder):
        (run / "tasks.json").write_text(json.dumps({"bach": BACH, "nuclei": MASKS}))
    other = BACH | {"images": BACH["images"] | {"image_px": 112, "seen_mpp": [5.76, 5.76]}}
    (run / "tasks.json").write_text(json.dumps({"bach": other, "nuclei": MASKS}))
    rows = task_rows(read_study(folder))
    assert [(row["task"], row["arms"], row["image_px"], row["seen_mpp"]) for row in rows] == [
        ("bach", "model=a", "224", "2.88"), ("bach", "model=b", "112", "5.76"), ("nuclei", "all", "224", "—"),
    ]  # fmt: skip
    assert rows[0]["samples"] == "train 268, val 132" and "which flatters" in rows[0]["note"]
    assert rows[2]["shorter_side_px"] == "250 (crops)" and rows[2]["note"] == "validation taken from train"
    report = write_report(folder).parent
    for name in ("index.html", "report.md", "tasks.csv"):
        assert "2.88" in (report / name).read_text()


def test_runs_of_earlier_versions_have_no_such_table(tmp_path):
    report = write_report(write_study(tmp_path / "mine", {"model=a": 0.0}, seeds=1)).parent
    assert 'id="tasks"' not in (report / "index.html").read_text()
