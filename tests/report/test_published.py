"""Published figures beside a study's own: the right ones, marked, in every export, and in no statistic."""

import csv

import numpy as np
import pytest
import yaml
from fake_study import write_study

from pathssl import records
from pathssl.report import published
from pathssl.report.comparison import choose_reading
from pathssl.report.page import write_report
from pathssl.report.study import read_study

# Of the paper's table, by hand.
FACTS = {
    ("kaiko B/8", "bach_val"): [0.865, 0.019],
    ("kaiko L/14", "pcam_test"): [0.898, 0.002],
    ("DINO S/16 random init", "mhist_val"): [0.501, 0.004],
    ("UNI L/16", "crc_val"): [0.950, 0.001],
    ("kaiko S/8", "consep_val"): [0.724],
    ("Phikon B/16", "pcam_val"): [0.912, 0.002],
}
OF_RUNS = np.array([0.71, 0.74, 0.69, 0.73, 0.72])


def of_arm(folder, arm, results, predictions=None, row=None, task="bach"):
    """Gives the runs of an arm results of another task at their last checkpoint, and the name of a published row."""
    for run in records.find_runs(folder / arm):
        records.write_probe(run, step=200, patches_seen=200 * 64, task=task, results=results, predictions=predictions)
        if row:
            config = yaml.safe_load((run / "config.yaml").read_text())
            config["report"] = (config.get("report") or {}) | {"row": row}
            (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def folder(tmp_path):
    folder = write_study(tmp_path / "mine", {"model=a": 0.0, "model=b_&_<script>": 0.0}, seeds=2)
    val, test = (
        {f"{key}/val/balanced_accuracy": 0.718 for key in ("eva_2024", "eva")},
        {"eva/test/balanced_accuracy": 0.6},
    )
    of_arm(folder, "model=a", val, {"eva_2024_runs_val_balanced_accuracy": OF_RUNS}, row="kaiko B/8")
    of_arm(folder, "model=b_&_<script>", {"eva_2024/val/balanced_accuracy": 0.5})
    of_arm(folder, "model=a", val | test, task="pcam")
    of_arm(folder, "model=a", {"seg_conv/val/dice": 0.4}, task="consep")
    return folder


def found(folder):
    study = read_study(folder)
    return published.published_beside(study, choose_reading(study))


def test_the_figures_are_those_of_the_paper():
    table = yaml.safe_load(published._FIGURES.read_text())
    assert {where: table["rows"][where[0]][where[1]] for where in FACTS} == FACTS
    assert len(table["rows"]) == 12 and all(set(row) <= set(table["columns"]) for row in table["rows"].values())
    assert all(len(row) >= 5 for row in table["rows"].values())


def test_ours_stand_below_the_published_row_of_their_model_with_the_spread_over_the_probes_runs(folder):
    beside = found(folder)
    assert list(beside.columns) == ["bach_val", "pcam_val", "pcam_test", "consep_val"]
    names = [(line.name, line.protocol) for line in beside.lines]
    at = names.index(("kaiko B/8", "published"))
    assert names[at + 1 : at + 3] == [("model=a", "eva_2024, seg_conv"), ("model=a", "eva")]
    assert names[-1] == ("model=b_&_<script>", "eva_2024") and len(names) == 12 + 3
    theirs, ours, today = beside.lines[at : at + 3]
    assert str(theirs.figures["bach_val"]) == "0.865 ± 0.019*"
    assert ours.figures["bach_val"].value == pytest.approx(0.718)
    assert ours.figures["bach_val"].sd == pytest.approx(np.std(OF_RUNS, ddof=1)) and ours.seeds["bach_val"] == 2
    assert today.figures["bach_val"].sd is None and ours.figures["consep_val"].value == pytest.approx(0.4)
    # PCam has both splits in the paper too: what is on test was not chosen there.
    assert (today.figures["pcam_val"].marks, today.figures["pcam_test"].marks) == ("*", "")
    assert "model=a is timm's a, after 12\u202f800 patches." in beside.notes
    assert any("which flatters" in note for note in beside.notes) and any("Dice" in note for note in beside.notes)


def test_a_task_whose_published_validation_is_held_back_is_said_to_be_so(folder):
    of_arm(folder, "model=a", {"eva/test/balanced_accuracy": 0.66, "eva/val/balanced_accuracy": 0.7})
    (line,) = [
        line
        for line in found(folder).lines
        if line.protocol.startswith("eva") and "bach_val" in line.figures and line.arm == "model=a"
    ]
    assert line.figures["bach_val"].value == pytest.approx(0.66) and line.figures["bach_val"].marks == "†"
    assert any(note.startswith("† on the published images") for note in found(folder).notes)


def test_every_export_has_them_and_no_statistic(folder):
    report = write_report(folder).parent
    page, text, tex = ((report / name).read_text() for name in ("index.html", "report.md", "published.tex"))
    rows = list(csv.DictReader((report / "published.csv").open()))
    assert {row["kind"] for row in rows} == {"published", "ours"} and len(rows) == (12 * 3 + 2) + 7
    for shown, sign in ((page, "0.865 ± 0.019*"), (text, r"0.865 ± 0.019\*"), (tex, r"0.865 $\pm$ 0.019$^*$")):
        assert sign in shown and "arXiv 2404.15217" in shown and "which flatters" in shown
    assert "<script>" not in page and r"model=b\_\&\_<script>" in tex
    for name in ("arms.csv", "runs.csv", "nulls.csv"):
        assert "kaiko" not in (report / name).read_text()
    assert "0.865" not in (report / "arms.csv").read_text()


def test_a_study_of_other_tasks_has_no_such_section(tmp_path):
    folder = write_study(tmp_path / "mine", {"model=a": 0.0}, seeds=1)
    report = write_report(folder).parent
    assert (
        found(folder) is None and (report / "published.csv").read_text() == (report / "published.tex").read_text() == ""
    )
    assert "Beside what was published" not in (report / "index.html").read_text() + (report / "report.md").read_text()
