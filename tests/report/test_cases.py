"""Differences over cases: the paired bootstrap against a loop over drawn cases, and what is said where it cannot be had."""

import csv

import numpy as np
import pytest
from fake_study import DEMO, write_study
from test_nulls import CASES, GROUPS, LABELS, add_predictions, scores

from pathssl import probe_records, records
from pathssl.report.cases import case_tables
from pathssl.report.comparison import choose_reading, compare_all
from pathssl.report.over_cases import over_cases
from pathssl.report.study import read_study
from pathssl.report.write import write_report

ARMS = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.0, "teacher=m0.999": 0.0}


def a_study(folder, accuracies, **options):
    folder = write_study(folder, dict.fromkeys(accuracies, 0.0), report=DEMO)
    for place, run in enumerate(records.find_runs(folder)):
        add_predictions(run, accuracies[run.parent.name], place, **options)
    return folder


@pytest.fixture
def study(tmp_path):
    return a_study(tmp_path / "demo", dict(zip(ARMS, (0.9, 0.9, 0.4), strict=True)))


def tables_of(folder):
    read = read_study(folder)
    reading = choose_reading(read)
    return case_tables(read, over_cases(read, reading), compare_all(read, reading))


def mean_recall(labels, predicted):
    return np.mean([(predicted[labels == label] == label).mean() for label in np.unique(labels)])


def naive(arm, base, draws):
    """The same draws of cases one by one: all images of each drawn case, once for each time that it was drawn."""
    names = np.unique(GROUPS)
    picked_SG = np.random.default_rng(0).multinomial(CASES, np.full(CASES, 1 / CASES), size=2000)[:draws]
    found = []
    for picked_G in picked_SG:
        rows = np.concatenate(
            [np.flatnonzero(np.equal(GROUPS, name)) for name, n in zip(names, picked_G, strict=True) for _ in range(n)]
        )
        of = [np.mean([mean_recall(LABELS[rows], seed[rows]) for seed in seeds]) for seeds in (arm, base)]
        found.append(of[0] - of[1])
    return np.array(found)


def test_the_interval_is_that_of_a_loop_over_drawn_cases_with_seeds_averaged(study):
    (table,) = tables_of(study)  # k-NN has no predictions here
    row = table.rows[-1]
    assert (row.arm, row.runs, table.cases, table.samples) == ("teacher=m0.999", (2, 2), 40, 240)
    predicted = [scores(0.9 if place < 4 else 0.4, place).argmax(axis=1) for place in range(6)]
    low, high = np.quantile(naive(predicted[4:], predicted[:2], 2000), [0.025, 0.975])
    assert (row.cases.low, row.cases.high) == pytest.approx((low, high))
    means = [np.mean([mean_recall(LABELS, one) for one in of]) for of in (predicted[4:], predicted[:2])]
    assert row.cases.value == pytest.approx(means[0] - means[1])


def test_pairs_make_the_interval_narrow_where_arms_fail_on_the_same_cases(study):
    """The same errors in both arms: the difference is zero in every draw, however the cases fall."""
    for run in records.find_runs(study):
        add_predictions(run, 0.6, records.seed_of(run))
    (table,) = tables_of(study)
    assert [(row.cases.value, row.cases.low, row.cases.high) for row in table.rows] == [(0, 0, 0)] * 2
    assert all(row.holds in ("neither", "other seeds only") for row in table.rows)


def test_what_holds_is_named_for_seeds_and_cases_apart(tmp_path):
    """Accuracies in metrics.jsonl give the verdict over seeds, predictions that over cases."""
    effects = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.3, "teacher=m0.999": 0.3, "teacher=m0.9999": 0.0}
    folder = write_study(tmp_path / "demo", effects, seeds=3, noise=0.004, report=DEMO)
    at_end = {"teacher=m0.9": 0.5, "teacher=m0.99": 0.9, "teacher=m0.999": 0.5, "teacher=m0.9999": 0.9}
    for run in records.find_runs(folder):
        add_predictions(run, at_end[run.parent.name], records.seed_of(run))
    (table,) = tables_of(folder)
    holds = {row.arm: row.holds for row in table.rows}
    assert holds == {
        "teacher=m0.99": "both", "teacher=m0.999": "other seeds only", "teacher=m0.9999": "other cases only",
    }  # fmt: skip
    assert any(
        sentence.startswith("Of 3 differences to teacher=m0.9 in balanced accuracy (synthetic, linear, test), 1 holds")
        and sentence.endswith(": teacher=m0.99.")
        for sentence in table.sentences
    )


def test_few_cases_have_no_interval_and_are_said_to_be_few(tmp_path):
    nine = np.repeat(np.arange(CASES) % 9, 6).astype(str)
    folder = a_study(tmp_path / "demo", dict(zip(ARMS, (0.9, 0.9, 0.4), strict=True)), groups=nine)
    (table,) = tables_of(folder)
    assert all(row.cases.low is None and row.cases.value != 0 for row in table.rows)
    assert all(row.holds.endswith("cases not known") for row in table.rows)
    assert table.sentences[0].startswith("9 cases are too few for an interval in balanced accuracy")
    assert table.sentences[0] in write_report(folder).read_text()


@pytest.mark.parametrize("what", ["ids", "labels", "groups"])
def test_arms_with_other_samples_labels_or_cases_are_named_and_not_compared(study, what):
    for run in records.find_runs(study):
        if run.parent.name == "teacher=m0.99":
            stored = dict(probe_records.read_predictions(run, 200, "synthetic"))
            stored[what] = np.roll(stored[what], 1)
            probe = probe_records.read_probes(run)[-1]
            fields = {key: probe[key] for key in ("step", "patches_seen", "task", "results")}
            probe_records.write_probe(run, **fields, predictions=stored)
    (table,) = tables_of(study)
    assert [row.cases is None for row in table.rows] == [True, False]
    assert table.sentences[-1].endswith("not compared over cases: teacher=m0.99.")


def test_a_seed_without_predictions_is_told(study):
    run = records.find_runs(study)[-1]
    (run / "probes" / "step_00000200" / "synthetic.npz").unlink()
    (table,) = tables_of(study)
    assert table.rows[-1].runs == (1, 2)
    assert table.sentences[-1].startswith("teacher=m0.999 has predictions of 1 of 2 seeds")


def test_page_csv_markdown_and_latex_hold_the_same_numbers(study):
    page = write_report(study).read_text()
    (table,) = tables_of(study)
    rows = list(csv.DictReader((study / "report" / "cases.csv").open()))
    assert [row["arm"] for row in rows] == [row.arm for row in table.rows]
    assert float(rows[1]["over_cases_low"]) == table.rows[1].cases.low and rows[1]["unit"] == "case"
    text = f"{table.rows[1].cases.value:+.3f}".replace("-", "−")
    assert text in page and "Other seeds, other patients" in page and 'data-arm="2"' in page
    assert text in (study / "report" / "report.md").read_text()
    assert text.replace("−", "$-$") in (study / "report" / "cases.tex").read_text()


def test_the_legend_speaks_of_a_lower_bar_only_where_one_is_drawn(study):
    lower = "the lower, dashed one over cases"
    assert lower in write_report(study).read_text()
    nine = np.repeat(np.arange(CASES) % 9, len(GROUPS) // CASES).astype(str)
    for place, run in enumerate(records.find_runs(study)):
        add_predictions(run, 0.9, place, groups=nine)
    page = write_report(study).read_text()
    assert lower not in page and "the mark below it, over cases or images, has no interval" in page


def test_without_predictions_or_with_one_arm_there_is_no_section(tmp_path):
    assert tables_of(write_study(tmp_path / "none", ARMS, report=DEMO)) == []
    folder = a_study(tmp_path / "one", {"teacher=m0.9": 0.9})
    assert tables_of(folder) == [] and 'id="cases"' not in write_report(folder).read_text()
