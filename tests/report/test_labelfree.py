"""Measures without labels beside the probes: correlations and costs by hand, and what is left out or said where there is little."""

import csv

import numpy as np
import pytest
from fake_study import ACCURACY
from scipy import stats

from pathssl import records
from pathssl.files import write_atomic
from pathssl.report.comparison import choose_reading
from pathssl.report.labelfree import label_free
from pathssl.report.study import read_study
from pathssl.report.write import write_report

RANKME, ODCORR, VAL = "unsupervised/rankme", "unsupervised/odcorr", ACCURACY.replace("/test/", "/val/")
# At the trained checkpoints of four runs (two arms, two seeds): accuracy, the same on validation, RankMe, ODCorr.
POINTS = {
    ("teacher=m0.9", 0): ([0.5, 0.7, 0.6], [0.5, 0.8, 0.6], [9.0, 8.0, 7.0], [0.1, 0.2, 0.3]),
    ("teacher=m0.9", 1): ([0.5, 0.6, 0.8], [0.5, 0.6, 0.7], [1.0, 3.0, 2.0], [0.3, 0.2, 0.1]),
    ("teacher=m0.99", 0): ([0.4, 0.5, 0.6], [0.6, 0.5, 0.4], [2.0, 3.0, 4.0], [0.2, 0.2, 0.1]),
    ("teacher=m0.99", 1): ([0.3, 0.4, 0.7], [0.4, 0.5, 0.6], [5.0, 6.0, 9.0], [0.1, 0.3, 0.2]),
}


def a_study(folder, points=POINTS):
    for (arm, seed), (test, val, rankme, odcorr) in points.items():
        run = folder / arm / f"seed{seed}"
        run.mkdir(parents=True)
        report = f"{{metrics: [{ACCURACY}, {RANKME}], baseline: teacher=m0.9}}"
        write_atomic(run / "config.yaml", f"study: demo\nseed: {seed}\nreport: {report}\n")
        records.write_status(
            run, "finished", step=30, total_steps=30, patches_seen=30, host=None, job_id=None, error=None
        )
        wild = {ACCURACY: 0.99, VAL: 0.99, RANKME: 99.0, ODCORR: 0.0}  # step 0, which must not count
        rows = [
            wild,
            *(
                {ACCURACY: a, VAL: b, RANKME: c, ODCORR: d}
                for a, b, c, d in zip(test, val, rankme, odcorr, strict=True)
            ),
        ]
        for place, row in enumerate(rows):
            records.append_metrics(run, {"step": 10 * place, "patches_seen": 10 * place} | row)
    return folder


def found_of(folder):
    study = read_study(folder)
    return label_free(study, choose_reading(study))


@pytest.fixture
def study(tmp_path):
    return a_study(tmp_path / "demo")


def test_the_three_correlations_are_spearmans_of_trained_checkpoints(study):
    relation = found_of(study).relations[0]
    assert (relation.by, relation.key, relation.points, relation.runs) == (RANKME, ACCURACY, 12, 4)
    test, rankme = (np.array([of[column] for of in POINTS.values()]) for column in (0, 2))
    assert relation.together.value == pytest.approx(stats.spearmanr(test.ravel(), rankme.ravel()).statistic)
    assert relation.last.value == pytest.approx(stats.spearmanr(test[:, -1], rankme[:, -1]).statistic)
    inside = [stats.spearmanr(a, b).statistic for a, b in zip(test, rankme, strict=True)]
    assert relation.inside.value == pytest.approx(np.mean(inside)) and relation.inside.n == 4


def test_costs_of_stopping_are_those_by_hand(study):
    """By RankMe: checkpoints 1, 2, 3, 3. By ODCorr, lower is better: 1, 3, 3, 1. By validation: 2, 3, 1, 3."""
    by_rankme, by_odcorr = found_of(study).stoppings
    assert [cost[0] for cost in by_rankme.costs.values()] == pytest.approx([0.6 - 0.5, 0.8 - 0.6, 0, 0])
    assert [cost[1] for cost in by_rankme.costs.values()] == pytest.approx([0.7 - 0.5, 0.8 - 0.6, 0.4 - 0.6, 0])
    assert [cost[0] for cost in by_odcorr.costs.values()] == pytest.approx([0.1, 0, 0, 0.7 - 0.3])
    assert (by_rankme.other, by_odcorr.other) == (2, 2)
    spread = np.sqrt((2 * 0.05**2 + 0) / 2)  # deviations from each arm's own mean, two degrees of freedom
    half = stats.t.ppf(0.975, 2) * spread / np.sqrt(4)
    assert (by_rankme.last.value, by_rankme.last.low) == pytest.approx((0.075, 0.075 - half))


def test_choosing_the_arm_by_a_measure_costs_what_validation_would_have_had(study):
    """By RankMe at the end: (7 + 2) / 2 against (4 + 9) / 2, so m0.99; by validation m0.9."""
    by_rankme, by_odcorr = found_of(study).choices
    assert (by_rankme.arm, by_rankme.validated) == ("teacher=m0.99", "teacher=m0.9")
    assert by_rankme.cost.value == pytest.approx((0.6 + 0.8) / 2 - (0.6 + 0.7) / 2)
    deviations = np.array([0.1, 0.1, 0.05, 0.05])
    half = stats.t.ppf(0.975, 2) * np.sqrt((deviations**2).sum() / 2)
    assert by_rankme.cost.high == pytest.approx(by_rankme.cost.value + half)
    assert (by_odcorr.arm, by_odcorr.validated) == ("teacher=m0.99", "teacher=m0.9")


def test_runs_that_do_not_train_do_not_count(study):
    run = study / "weights" / "seed0"
    run.mkdir(parents=True)
    write_atomic(run / "config.yaml", "study: demo\nseed: 0\ntrain: {patches: 0}\n")
    records.write_status(run, "finished", step=0, total_steps=0, patches_seen=0, host=None, job_id=None, error=None)
    records.append_metrics(run, {"step": 0, "patches_seen": 0, ACCURACY: 1.0, VAL: 1.0, RANKME: 1000.0, ODCORR: 0.0})
    found = found_of(study)
    assert found.relations[0].points == 12 and found.choices[0].arm == "teacher=m0.99"
    assert {trail.arm for trail in found.trails[RANKME]} == {"teacher=m0.9", "teacher=m0.99"}


@pytest.mark.parametrize(("runs", "checkpoints"), [(3, 3), (4, 2)])
def test_too_few_runs_or_checkpoints_are_said_to_be_few(tmp_path, runs, checkpoints):
    points = {run: tuple(of[:checkpoints] for of in columns) for run, columns in list(POINTS.items())[:runs]}
    folder = a_study(tmp_path / "demo", points)
    found = found_of(folder)
    assert found.relations[0].together is None and found.stoppings == []
    n = 3 if runs == 3 else 0
    assert found.sentences[0].startswith(f"{n} trained runs with 3 checkpoints or more after step 0 are too few")
    assert found.sentences[0] in write_report(folder).read_text()


def test_where_nothing_was_chosen_by_validation_that_is_said(tmp_path):
    folder = a_study(tmp_path / "demo")
    for run in records.find_runs(folder):
        text = (run / "metrics.jsonl").read_text()
        write_atomic(run / "metrics.jsonl", text.replace(VAL, VAL.replace("balanced_accuracy", "f1")))
    found = found_of(folder)
    assert all(one.validated is None for one in found.stoppings) and found.choices == []
    assert found.sentences[-1].startswith("No validation split to choose by")


def test_what_describes_is_no_measure_to_choose_by_and_has_a_curve(study):
    for run in records.find_runs(study):
        row = {"unsupervised/apart": 0.2, "unsupervised/site_chance": 0.5}
        records.append_metrics(run, {"step": 30, "patches_seen": 30} | row)
    found = found_of(study)
    assert (
        {one.by for one in (*found.relations, *found.stoppings, *found.choices)} == {RANKME, ODCORR} == {*found.trails}
    )
    page = write_report(study).read_text()
    answer, curves = page.partition('id="curves"')[::2]
    assert "Distance between patches" in curves and "istance between patches" not in answer
    assert "unsupervised/apart" not in (study / "report" / "arms.csv").read_text()


def test_page_csv_markdown_and_latex_hold_the_same_numbers(study):
    page = write_report(study).read_text()
    found = found_of(study)
    rho = f"{found.relations[0].together.value:+.2f}".replace("-", "−")
    cost = f"{found.stoppings[0].last.value:+.3f}"
    for name in ("report.md", "labelfree.tex"):
        text = (study / "report" / name).read_text().replace("$-$", "−")
        assert rho in text and cost in text
    assert rho in page and cost in page and found.sentences[0] in page
    rows = list(csv.DictReader((study / "report" / "labelfree.csv").open()))
    assert float(rows[0]["value"]) == found.relations[0].together.value
    assert [row["arm"] for row in rows if row["arm"]] == ["teacher=m0.99"] * 2


def test_without_measures_or_probes_there_is_no_section(study):
    for run in records.find_runs(study):
        text = (run / "metrics.jsonl").read_text()
        write_atomic(run / "metrics.jsonl", text.replace("unsupervised/", "other/"))
    assert found_of(study) is None and 'id="labelfree"' not in write_report(study).read_text()
