"""Published figures beside a study's own: the right ones, marked, in every export, and in no statistic."""

import csv
import json

import numpy as np
import pytest
import yaml
from fake_study import write_study

from pathssl import probe_records, records
from pathssl.cli import main
from pathssl.complaints import CONF
from pathssl.report import published
from pathssl.report.comparison import choose_reading
from pathssl.report.study import read_study
from pathssl.report.write import write_report

# Table I of arXiv 2404.15217 as printed: BACH, CRC, MHIST, PCam val, PCam test, each mean and sd, in thousandths; typed from the paper.
COLUMNS = ("bach_val", "crc_val", "mhist_val", "pcam_val", "pcam_test")
FACTS = """
DINO S/16 random init   410  9   617 8   501  4   753 2   728 3
DINO S/16 ImageNet      695  4   935 3   831  2   864 7   849 7
DINO B/8 ImageNet       710  7   939 1   814  3   870 3   856 4
DINOv2 L/14 natural     707  8   916 2   832  3   873 1   888 1
Lunit S/16              801  5   934 1   768  4   889 2   895 6
Phikon B/16             725  4   935 1   777  5   912 2   915 3
UNI L/16                814  8   950 1   837  1   936 1   938 1
kaiko S/16              797  3   943 1   828  3   903 1   893 5
kaiko S/8               834 12   946 2   832  6   897 1   887 2
kaiko B/16              810  8   960 1   826  3   900 2   898 3
kaiko B/8               865 19   956 1   809 21   913 1   921 2
kaiko L/14              870  5   930 1   809  1   908 1   898 2
"""
OTHERS = {
    "kaiko S/8": {"tp53_test": [0.621], "consep_val": [0.724]},
    "kaiko B/16": {"tp53_test": [0.651]},
    "kaiko L/14": {"tp53_test": [0.656], "consep_val": [0.679]},
}
OF_RUNS = np.array([0.71, 0.74, 0.69, 0.73, 0.72])


def of_arm(folder, arm, results, predictions=None, row=None, task="bach"):
    """Gives the runs of an arm results of another task at their last checkpoint, and the name of a published row."""
    for run in records.find_runs(folder / arm):
        probe_records.write_probe(
            run, step=200, patches_seen=200 * 64, task=task, results=results, predictions=predictions
        )
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
    expected = {}
    for line in FACTS.strip().splitlines():
        name, numbers = line[:24].strip(), [int(number) / 1000 for number in line[24:].split()]
        expected[name] = {key: numbers[2 * k : 2 * k + 2] for k, key in enumerate(COLUMNS)} | OTHERS.get(name, {})
    table = yaml.safe_load(published._FIGURES.read_text())
    assert table["rows"] == expected and sum(map(len, expected.values())) == 12 * 5 + 5
    assert list(table["columns"]) == [*COLUMNS, "tp53_test", "consep_val"]


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


def test_every_export_has_them_and_no_statistic(folder, capsys):
    report = write_report(folder).parent
    page, text, tex = ((report / name).read_text() for name in ("index.html", "report.md", "published.tex"))
    rows = list(csv.DictReader((report / "published.csv").open()))
    assert {row["kind"] for row in rows} == {"published", "ours"} and len(rows) == (12 * 3 + 2) + 7
    for shown, sign in ((page, "0.865 ± 0.019*"), (text, r"0.865 ± 0.019\*"), (tex, r"0.865 $\pm$ 0.019$^*$")):
        assert sign in shown and "arXiv 2404.15217" in shown and "which flatters" in shown
    section = (report / "published.md").read_text()
    assert section in text and section.startswith("## Beside what was published")
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == str(report / "index.html") and section.rstrip() in printed
    assert page.count("<script>") == 1 and r"model=b\_\&\_\textless{}script\textgreater{}" in tex
    for name in ("arms.csv", "runs.csv"):
        assert "kaiko" not in (report / name).read_text()
    assert "0.865" not in (report / "arms.csv").read_text()


def test_a_study_of_other_tasks_has_no_such_section(tmp_path, capsys):
    folder = write_study(tmp_path / "mine", {"model=a": 0.0}, seeds=1)
    report = write_report(folder).parent
    assert found(folder) is None and not [*report.glob("published.*")]
    assert main(["report", str(folder)]) == 0 and capsys.readouterr().out == f"{report / 'index.html'}\n"
    assert "Beside what was published" not in (report / "index.html").read_text() + (report / "report.md").read_text()


def settings(folder, arm, tasks=None, **config):
    """Gives the runs of an arm these settings and tasks.json."""
    for run in records.find_runs(folder / arm):
        there = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump(there | config))
        (run / "tasks.json").write_text(json.dumps(tasks or {}))


def described(image_px=224, taken=False, **splits):
    of = {name: {"samples": samples, "groups": None} for name, samples in splits.items()}
    return {"images": {"image_px": image_px}, "splits": of, "val_taken_from_train": taken}


def block(protocol, **changes):
    return yaml.safe_load((CONF / "probe" / f"{protocol}.yaml").read_text()) | changes


def test_what_is_made_as_published_has_no_mark(folder):
    blocks = {name: block(name) for name in ("eva_2024", "seg_conv", "eva")}
    same = {"bach": described(train=268, val=132), "pcam": described(train=262144, val=32768, test=32768)}
    settings(folder, "model=a", same, probe=blocks, features={"pool": "cls", "block": None})
    assert not any("§" in figure.marks for line in found(folder).lines for figure in line.figures.values())
    held_back = {"bach": described(taken=True, train=214, val=54, test=132)}
    settings(folder, "model=a", held_back, probe=blocks | {"where": "run"})
    assert not any(note.startswith("§") for note in found(folder).notes)


def test_another_dataset_size_image_feature_or_protocol_is_marked_with_its_reason(folder):
    eva = block("eva_2024", steps=500, runs=2, device="cuda", by_task={"bach": {"patience": 5}})
    del eva["momentum"]
    tasks = {"bach": described(112, train=20, val=10), "consep": described(train=27, val=14)}
    probe = {"eva_2024": eva, "seg_conv": block("seg_conv", hidden=32)}
    settings(folder, "model=a", tasks, probe=probe, features={"pool": "cls_mean", "block": 3})
    line = next(line for line in found(folder).lines if line.arm == "model=a")
    assert line.figures["bach_val"].unlike == (
        "20 / 10 samples, not 268 / 132",
        "images at 112 px, not 224",
        "features.pool cls_mean, not cls",
        "features.block 3, not the last",
        "eva_2024.momentum not said, not 0.9",
        "eva_2024.steps 500, not 12500",
        "eva_2024.patience 5, not 400",
        "eva_2024.runs 2, not 5",
    )
    assert line.figures["consep_val"].unlike == ("features.block 3, not the last", "seg_conv.hidden 32, not 64")
    assert str(line.figures["bach_val"]).endswith("*§")
    (note,) = [note for note in found(folder).notes if note.startswith("§")]
    assert "BACH: 20 / 10 samples, not 268 / 132 (in model=a)" in note
    report = write_report(folder).parent
    for name in ("index.html", "report.md"):
        assert note in (report / name).read_text()
    assert r"$^*$$^\S$" in (report / "published.tex").read_text()
    rows = csv.DictReader((report / "published.csv").open())
    assert any("images at 112 px" in row["unlike_published"] for row in rows if row["kind"] == "ours")


def test_what_a_task_was_probed_with_later_counts_and_not_the_runs_config(folder):
    settings(folder, "model=a", probe={"eva_2024": block("eva_2024")})
    made = {
        "task": {"image_px": 96, "counts": None},
        "features": {"pool": "cls"},
        "protocols": {"eva_2024": block("eva_2024", steps=7)},
    }
    for run in records.find_runs(folder / "model=a"):
        results = {"eva_2024/val/balanced_accuracy": 0.7}
        probe_records.write_probe(run, step=200, patches_seen=200 * 64, task="bach", results=results, made_with=made)
    line = next(line for line in found(folder).lines if line.arm == "model=a")
    reasons = ("samples that were not counted", "images at 96 px, not 224", "eva_2024.steps 7, not 12500")
    assert line.figures["bach_val"].unlike == reasons


def test_the_published_tp53_is_of_slides_that_were_trained_on_and_its_split_is_not_known(folder):
    of_arm(
        folder, "model=a", {"eva_2024/test/balanced_accuracy": 0.7, "eva_2024/val/balanced_accuracy": 0.8}, task="tp53"
    )
    lines = {line.name: line for line in found(folder).lines if "tp53_test" in line.figures}
    assert str(lines["kaiko L/14"].figures["tp53_test"]) == "0.656?‡"
    assert str(lines["model=a"].figures["tp53_test"]) == "0.700"
    assert "? on which images, and by which the probe's state was chosen, is not published." in found(folder).notes
    assert "‡ tested on what was trained on." in found(folder).notes
    rows = list(csv.DictReader((write_report(folder).parent / "published.csv").open()))
    row = next(row for row in rows if (row["row"], row["column"]) == ("kaiko L/14", "TP53"))
    assert (row["best_validation"], row["tested_on_training"]) == ("not published", "True")


def test_the_published_counts_are_those_of_the_tasks():
    for column, of in yaml.safe_load(published._FIGURES.read_text())["columns"].items():
        if "counts" in of:
            counts = yaml.safe_load((CONF / "task" / f"{column.rpartition('_')[0]}.yaml").read_text())["counts"]
            sums = [sum(count.values()) if isinstance(count, dict) else count for count in counts.values()]
            assert list(of["counts"].values()) == sums
