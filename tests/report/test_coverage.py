import csv
import json

import pytest
from fake_study import DEMO, coverage, write_study

from pathssl import records
from pathssl.report import words
from pathssl.report.coverage import account
from pathssl.report.exports import coverage_csv
from pathssl.report.study import read_study
from pathssl.report.write import write_report

ARMS = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.0}


def study_of(tmp_path, by_run, arms=ARMS):
    """A study whose run number i (arm after arm, two seeds each) has the coverage `by_run(i)`."""
    folder = write_study(tmp_path / "demo", arms, seeds=2, report=DEMO, pictures=False, lines=4)
    for i, run in enumerate(records.find_runs(folder)):
        records.write_coverage(run, 20, by_run(i))
    return folder


def test_numbers_are_means_over_the_seeds_of_an_arm(tmp_path):
    folder = study_of(tmp_path, lambda i: coverage({0.5: 100 + 10 * i}, slides=20 + i))
    study = read_study(folder)
    found = account(study, study.runs).covered
    assert [(one.arms, one.runs) for one in found] == [(["teacher=m0.9"], 2), (["teacher=m0.99"], 2)]
    assert [row["patches"] for one in found for row in one.rows] == [105, 125]
    assert [row["slides"] for one in found for row in one.rows] == [20.5, 22.5]
    assert found[0].rows[0]["read_mm2"] == pytest.approx(105 * 0.112**2)


def test_arms_that_saw_the_same_share_their_rows_and_several_magnifications_have_a_total(tmp_path):
    study = read_study(study_of(tmp_path, lambda i: coverage({0.5: 100 + i % 2, 1.0: 50, 2.0: 0})))
    [one] = account(study, study.runs).covered
    assert one.arms == list(ARMS)
    assert [(row["mpp"], row["patches"]) for row in one.rows] == [(0.5, 100.5), (1.0, 50), (None, 150.5)]


def test_intervals_of_magnification_are_rows_too(tmp_path):
    def drawn(_):
        table = coverage({0.25: 100, 0.5: 50})
        for row, end in zip(table["magnifications"], (0.5, 2.0), strict=True):
            row["mpp"] = [row["mpp"], end]
        return table

    study = read_study(study_of(tmp_path, drawn))
    found = account(study, study.runs)
    assert [words.magnification(row["mpp"]) for row in found.covered[0].rows] == [
        *("0.25–0.5 µm/px (40–20×)", "0.5–2 µm/px (20–5×)", "all")
    ]
    assert [row["mpp"] for row in csv.DictReader(coverage_csv(found).splitlines())][:3] == ["0.25-0.5", "0.5-2", ""]


def test_runs_that_have_not_begun_do_not_dilute_the_means(tmp_path):
    study = read_study(study_of(tmp_path, lambda i: coverage({0.5: 0 if i == 1 else 100})))
    found = account(study, study.runs).covered
    assert [(one.runs, one.rows[0]["patches"]) for one in found] == [(1, 100), (2, 100)]


def test_slides_are_named_once_however_many_runs_they_failed_in(tmp_path):
    folder = study_of(tmp_path, lambda i: coverage({0.5: 1000}, {"a.svs": 2, "b.svs": 30} if i < 3 else {"b.svs": 10}))
    for run in records.find_runs(folder):
        (run / "data.json").write_text(
            json.dumps({"quarantined": [["x.svs", "empty"], ["y.svs", "empty"], ["z.svs", "cut"]]})
        )
    study = read_study(folder)
    found = account(study, study.runs)
    assert [(one.slide, one.draws, one.runs, one.arms) for one in found.replaced] == [
        ("b.svs", 100, 4, list(ARMS)),
        ("a.svs", 6, 3, list(ARMS)),
    ]
    assert [(one.reason, one.slides) for one in found.quarantined] == [
        ("empty", ["x.svs", "y.svs"]),
        ("cut", ["z.svs"]),
    ]
    assert found.sentence.startswith("106 draws on 2 slides could not be decoded, in 4 of 4 runs (2.6 % of all draws)")


def test_a_fault_of_some_arms_only_says_which(tmp_path):
    folder = study_of(tmp_path, lambda _: coverage({0.5: 1000}))
    run = next(iter(records.find_runs(folder)))
    data = {"slides": 3, "cases": 3, "tissue_mm2": 1.0, "held_out": []}
    (run / "data.json").write_text(json.dumps(data | {"quarantined": [["x.svs", "empty"]]}))
    [one] = account(read_study(folder), []).quarantined
    assert one.arms == ["teacher=m0.9"]
    assert "only in teacher=m0.9" in write_report(folder).read_text()


def test_three_hundred_bad_slides_stay_folded_and_are_all_in_the_files(tmp_path):
    names = [f"slide{k:03d}.svs" for k in range(300)]
    folder = study_of(tmp_path, lambda _: coverage({0.5: 100_000}, dict.fromkeys(names, 3)))
    data = {"slides": 1000, "cases": 300, "tissue_mm2": 1.0, "held_out": []}
    for run in records.find_runs(folder):
        (run / "data.json").write_text(
            json.dumps(data | {"quarantined": [[f"q{name}", "truncated"] for name in names]})
        )
    page = write_report(folder).read_text()
    assert "300 slides in quarantine" in page
    assert page.count("<details open>") == 1  # the runs; the long lists are folded
    assert page.count("slide299.svs") == 2
    rows = list(csv.DictReader((folder / "report/faults.csv").open()))
    assert [sum(row["fault"] == kind for row in rows) for kind in ("quarantined", "replaced")] == [300, 300]
    markdown = (folder / "report/report.md").read_text()
    assert "and 290 more (faults.csv)" in markdown
    assert markdown.count(".svs") <= 2 * 10


def test_page_csv_and_markdown_give_the_same_coverage(tmp_path):
    folder = study_of(tmp_path, lambda _: coverage({0.5: 12_800, 0.25: 6_400}))
    page = write_report(folder).read_text()
    markdown = (folder / "report/report.md").read_text()
    rows = list(csv.DictReader((folder / "report/coverage.csv").open()))
    assert [(row["arm"], row["mpp"]) for row in rows[:3]] == [
        ("teacher=m0.9", "0.25"),
        ("teacher=m0.9", "0.5"),
        ("teacher=m0.9", ""),
    ]
    for text in ("12\u202f800", "24 of 24", f"{float(rows[1]['read_mm2']):.3g}", "0.5 µm/px (20×)"):
        assert text in page and text in markdown


def test_the_report_reads_no_run_s_list_of_replaced_draws_which_may_be_huge(tmp_path):
    folder = study_of(tmp_path, lambda _: coverage({0.5: 100}, {"a.svs": 2}))
    for run in records.find_runs(folder):
        (run / "replaced.jsonl").mkdir()  # reading it would be an error
    assert "a.svs" in write_report(folder).read_text()
