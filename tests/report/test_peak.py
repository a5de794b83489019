"""The checkpoint that validation chooses, beside the last: never the best on test."""

import csv

import numpy as np
import pytest
from fake_study import ACCURACY, write_points
from scipy import stats

from pathssl.report.comparison import choose_reading, compare_all
from pathssl.report.peak import chosen_at, peak_tables
from pathssl.report.study import read_study
from pathssl.report.write import write_report

VAL = ACCURACY.replace("/test/", "/val/")
REPORT = {"baseline": "m=a", "primary": ACCURACY, "metrics": [ACCURACY], "family": [ACCURACY]}
PLACES = (0, 100, 200, 300)
# (val, test) at PLACES. Of m=a's first seed val is best at 200 and test at 100; of its second at the end; val ties in m=b's first. At
# step 0 val is better still, which must not count.
RUNS = {
    ("m=a", 0): ((0.95, 0.6, 0.7, 0.65), (0.5, 0.99, 0.66, 0.60)),
    ("m=a", 1): ((0.95, 0.6, 0.7, 0.71), (0.5, 0.65, 0.68, 0.64)),
    ("m=b", 0): ((0.95, 0.8, 0.8, 0.70), (0.5, 0.75, 0.99, 0.70)),
    ("m=b", 1): ((0.95, 0.6, 0.9, 0.80), (0.5, 0.60, 0.79, 0.76)),
}
PEAKS = {"m=a": [0.66, 0.64], "m=b": [0.75, 0.79]}
FINALS = {"m=a": [0.60, 0.64], "m=b": [0.70, 0.76]}


def write(folder, test=ACCURACY, val=VAL, report=REPORT):
    for (arm, seed), values in RUNS.items():
        rows = [
            {"patches_seen": at} | {key: value for key, value in ((val, a), (test, b)) if key}
            for at, a, b in zip(PLACES, *values, strict=True)
        ]
        write_points(folder / arm / f"seed{seed}", rows, report=report)
    return folder


def tables(folder):
    study = read_study(folder)
    reading = choose_reading(study)
    return peak_tables(study, reading, compare_all(study, reading))


def interval(mean, spread, inverse_n):
    half = stats.t.ppf(0.975, 2) * spread * inverse_n**0.5
    return mean, mean - half, mean + half


def pooled(values):
    return (
        float(np.mean([np.var(x, ddof=1) for x in values.values()])) ** 0.5
    )  # one degree of freedom in each of two arms


def test_each_run_is_read_where_its_own_validation_is_best_though_test_is_better_elsewhere(tmp_path):
    [table] = tables(write(tmp_path / "s"))
    assert [row.chosen for row in table.rows] == [[(0, 200), (1, 300)], [(0, 100), (1, 200)]]
    for row in table.rows:
        peak, final = interval(np.mean(PEAKS[row.arm]), pooled(PEAKS), 1 / 2), np.mean(FINALS[row.arm])
        assert (row.peak.value, row.peak.low, row.peak.high) == pytest.approx(peak)
        assert row.final.value == pytest.approx(final)


def test_peak_minus_final_is_of_each_run_with_its_own_spread(tmp_path):
    [table] = tables(write(tmp_path / "s"))
    changes = {arm: np.subtract(PEAKS[arm], FINALS[arm]) for arm in PEAKS}
    for row in table.rows:
        expected = interval(np.mean(changes[row.arm]), pooled(changes), 1 / 2)
        assert (row.change.value, row.change.low, row.change.high) == pytest.approx(expected)


def test_the_verdict_by_the_peak_stands_beside_the_one_by_the_last_checkpoint(tmp_path):
    [table] = tables(write(tmp_path / "s"))
    row = table.rows[1]
    mean = np.mean(PEAKS["m=b"]) - np.mean(PEAKS["m=a"])
    one = row.peak_difference
    assert (one.value, one.low, one.high) == pytest.approx(interval(mean, pooled(PEAKS), 1))
    assert one.p == pytest.approx(2 * stats.t.sf(mean / pooled(PEAKS), 2))
    assert (row.final_outcome, row.peak_outcome) == ("same", "higher")
    assert table.sentence == (
        "In balanced accuracy (synthetic, linear, test), verdicts differ for m=b "
        "(at the last checkpoint: cannot be told apart; at the peak: higher)."
    )


def test_where_less_is_better_the_lowest_validation_is_chosen(tmp_path):
    test, val = (f"probe/synthetic/linear/{split}/stain_flips_0.05" for split in ("test", "val"))
    run = read_study(write(tmp_path / "s", test, val, REPORT | {"primary": test})).runs[0]
    assert chosen_at(run, test, 300) == 100


def test_step_0_is_chosen_of_runs_that_do_not_train_alone(tmp_path):
    folder = write(tmp_path / "s")
    rows = [{"patches_seen": 0, VAL: 0.4, ACCURACY: 0.45}]
    write_points(folder / "weights" / "seed0", rows, config={"train": {"patches": 0}})
    *_, weights = tables(folder)[0].rows
    assert (weights.arm, weights.chosen) == ("weights", [(0, 0)])
    assert weights.peak.value == weights.final.value == 0.45 and weights.change.value == 0
    run = read_study(folder).of("m=a")[0]
    assert chosen_at(run, ACCURACY, 0) is None


def test_a_run_without_a_checkpoint_after_step_0_is_left_out_and_counted(tmp_path):
    folder = write(tmp_path / "s")
    rows = [{"patches_seen": 0, VAL: 0.4, ACCURACY: 0.45}, {"patches_seen": 300, ACCURACY: 0.7}]
    write_points(folder / "m=b" / "seed2", rows)
    [table] = tables(folder)
    assert [len(row.chosen) for row in table.rows] == [2, 2]
    assert table.notes[-1] == "1 run is left out of the peak, without a checkpoint after step 0 that has both splits."


def test_no_checkpoint_beyond_where_the_study_is_read_is_chosen(tmp_path):
    run = read_study(write(tmp_path / "s")).runs[0]
    assert (chosen_at(run, ACCURACY, 300), chosen_at(run, ACCURACY, 100)) == (200, 100)


@pytest.mark.parametrize(
    ("test", "val", "said"),
    [
        (ACCURACY, None, "No run has probe/synthetic/linear/val/balanced_accuracy"),
        (VAL, None, "is itself on validation images"),
        ("unsupervised/rankme", None, "has no validation split"),
    ],
)
def test_without_a_validation_beside_it_nothing_is_chosen_and_nothing_shown(tmp_path, test, val, said):
    folder = write(tmp_path / "s", test, val, {"baseline": "m=a", "primary": test, "metrics": [test]})
    [table] = tables(folder)
    assert said in table.why_not and table.rows == [] and "cannot be chosen" in table.sentence
    report = write_report(folder).parent
    assert said in (report / "index.html").read_text() and said in (report / "report.md").read_text()
    assert not [*report.glob("peak.*")]


def test_files_have_the_numbers_of_the_page(tmp_path):
    report = write_report(write(tmp_path / "s")).parent
    for name in ("index.html", "report.md", "peak.tex"):
        shown = (report / name).read_text()
        assert (
            "+0.040" in shown
            and "not the best on test" in shown
            and "0.990" not in shown.partition("Peak and final")[2]
        )
    a, b = csv.DictReader((report / "peak.csv").open())
    assert (a["chosen_at_patches"], b["chosen_at_patches"]) == ("seed0:200 seed1:300", "seed0:100 seed1:200")
    assert float(b["peak_minus_final"]) == pytest.approx(0.04) and (b["final_outcome"], b["peak_outcome"]) == (
        "same",
        "higher",
    )
