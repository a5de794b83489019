"""Arms beside what has learned nothing: the values, intervals over the same cases, and a sentence where an arm does not beat a null."""

import csv
from pathlib import Path

import numpy as np
import pytest
from fake_study import ACCURACY, DEMO, write_study

from pathssl import probe_records, records
from pathssl.metrics import auroc, balanced_accuracy
from pathssl.metrics.bootstrap import aurocs, balanced_accuracies, interval, recalls
from pathssl.metrics.segmentation import dice, miou
from pathssl.report import words
from pathssl.report.comparison import choose_reading
from pathssl.report.nulls import NullRow, NullTable, _sentences, null_tables
from pathssl.report.over_cases import over_cases
from pathssl.report.scored import drawn, scored
from pathssl.report.statistics import Estimate
from pathssl.report.study import read_study
from pathssl.report.write import write_report

CASES, EACH = 40, 6
LABELS = np.repeat(np.arange(CASES) % 3, EACH)
GROUPS = np.repeat([f"case{k}" for k in range(CASES)], EACH)


def scores(accuracy, seed):
    """(N, 3) whose highest is right with this probability."""
    rng = np.random.default_rng(seed)
    predictions = np.where(rng.random(len(LABELS)) < accuracy, LABELS, rng.integers(0, 3, len(LABELS)))
    return np.eye(3)[predictions] * 0.8 + 0.2 / 3


def add_predictions(run: Path, at_end: float, seed: int, *, ids=None, null=0.3, groups=GROUPS, runs=False) -> None:
    """null: the accuracy of random weights, which follow from the run's seed and its architecture. runs: by a protocol of two runs."""
    probes, of_null = probe_records.read_probes(run), records.seed_of(run) + 50
    for probe in (probes[0], probes[-1]):
        predictions = {
            "classes": np.array(["a", "b", "c"]),
            "split": np.array("test"),
            "labels": LABELS,
            "groups": groups,
        }
        predictions["ids"] = np.array([f"{k}.png" for k in range(len(LABELS))]) if ids is None else ids
        predictions["linear_scores"] = scores(at_end, seed) if probe["step"] else scores(0.3, 7)
        if runs:
            of_runs = [scores(at_end, seed), scores(at_end - 0.2, seed + 1)]
            predictions["linear_runs_predictions"] = np.array(of_runs).argmax(axis=2)
        if not probe["step"]:
            predictions |= {
                "linear_random_weights_scores": scores(null, of_null),
                "linear_colour_histogram_scores": scores(0.5, 99),
            }
        fields = {key: probe[key] for key in ("step", "patches_seen", "task", "results")}
        probe_records.write_probe(run, **fields, predictions=predictions)


@pytest.fixture
def study(tmp_path):
    folder = write_study(tmp_path / "demo", {"teacher=m0.9": 0.0, "teacher=m0.99": 0.0}, report=DEMO)
    for run in records.find_runs(folder):
        good = run.parent.name == "teacher=m0.9"
        add_predictions(run, 0.9 if good else 0.5, records.seed_of(run) + (0 if good else 10))
    return folder


def tables_of(folder):
    read = read_study(folder)
    return null_tables(read, over_cases(read, choose_reading(read)))


def test_every_row_is_the_mean_over_seeds_with_the_interval_over_cases(study):
    (table,) = tables_of(study)  # k-NN has no predictions here
    assert table.key == ACCURACY and (table.samples, table.cases) == (240, 40)
    assert [row.name for row in table.rows] == ["teacher=m0.9", "teacher=m0.99", "random weights", "colour histogram"]
    good = table.rows[0]
    found = [scores(0.9, seed).argmax(axis=1) for seed in (0, 1)]
    assert good.value.n == 2 and good.value.value == pytest.approx(
        np.mean([balanced_accuracy(LABELS, one) for one in found])
    )
    draws = np.mean([balanced_accuracies(LABELS, one, GROUPS, 3) for one in found], axis=0)
    assert (good.value.low, good.value.high) == pytest.approx(interval(draws))
    colour = balanced_accuracies(LABELS, scores(0.5, 99).argmax(axis=1), GROUPS, 3)
    difference = good.differences["colour histogram"]
    assert (difference.low, difference.high) == pytest.approx(interval(draws - colour))
    assert difference.low > 0


def test_an_arm_stands_beside_random_weights_of_its_own_architecture(study):
    """Pooled over arms, the null of a good architecture would be too low, and that of a poor one too high."""
    for run in records.find_runs(study):
        good = run.parent.name == "teacher=m0.9"
        add_predictions(run, 0.6, records.seed_of(run) + (0 if good else 10), null=0.8 if good else 0.1)
    (table,) = tables_of(study)
    names = [row.name for row in table.rows]
    assert names[2:4] == ["random weights (teacher=m0.9)", "random weights (teacher=m0.99)"]
    own = {row.arm: row.differences["random weights"].value for row in table.rows[:2]}
    assert own["teacher=m0.9"] < -0.05 and own["teacher=m0.99"] > 0.2
    for arm, null in ((0, 2), (1, 3)):
        difference = table.rows[arm].value.value - table.rows[null].value.value
        assert table.rows[arm].differences["random weights"].value == pytest.approx(difference)
    assert any(sentence.startswith("teacher=m0.9 does not beat random weights") for sentence in table.sentences)


def test_areas_under_the_curve_and_few_shots_have_intervals_too(study):
    run = records.find_runs(study)[0]
    (probe,) = [one for one in probe_records.read_probes(run) if one["step"] == 200]
    predictions = dict(probe_records.read_predictions(run, 200, "synthetic"))
    hits = np.random.default_rng(0).random((2, len(LABELS)))
    predictions |= {"few_shot_shots": np.array([1, 4]), "few_shot_draws": np.full((2, 3), 0.4), "few_shot_hits": hits}
    fields = {key: probe[key] for key in ("step", "patches_seen", "task", "results")}
    probe_records.write_probe(run, **fields, predictions=predictions)
    stored = probe_records.read_predictions(run, 200, "synthetic")
    area = scored(stored, 0, "linear", "test", "auroc")
    assert area.value == auroc(LABELS, predictions["linear_scores"])
    assert np.array_equal(area.values_S, aurocs(LABELS, predictions["linear_scores"], GROUPS))
    four = scored(stored, 0, "few_shot", "test", "4shot_balanced_accuracy")
    assert four.value == pytest.approx(0.4) and np.array_equal(four.values_S, recalls(hits[1], LABELS, GROUPS))
    assert scored(stored, 0, "few_shot", "test", "2shot_balanced_accuracy") is None
    assert drawn("probe/synthetic/linear/test/auroc") and not drawn("probe/synthetic/linear/test/stain_flips_0.05")


def test_a_protocol_of_several_runs_has_the_mean_of_their_metrics_as_its_results_do(study):
    for run in records.find_runs(study):
        add_predictions(run, 0.9, records.seed_of(run), runs=True)
    (table,) = tables_of(study)
    found = [scores(0.9 - 0.2 * k, seed + k).argmax(axis=1) for seed in (0, 1) for k in (0, 1)]
    expected = np.mean([balanced_accuracy(LABELS, one) for one in found])
    assert table.rows[0].value.value == pytest.approx(expected)


def test_few_cases_have_no_interval_and_images_are_not_called_cases(study):
    nine = np.repeat(np.arange(CASES) % 9, EACH).astype(str)
    for groups, cases, unit in ((nine, 9, "case"), (np.array([f"{k}.png" for k in range(len(LABELS))]), 240, "image")):
        for run in records.find_runs(study):
            add_predictions(run, 0.5, records.seed_of(run), groups=groups)
        (table,) = tables_of(study)
        assert (table.cases, table.unit) == (cases, unit) and (table.rows[0].value.low is None) == (cases < 10)
        assert cases > 10 or table.sentences == [
            f"9 cases are too few for an interval in {words.full_title(table.key)}: 10 are wanted."
        ]
    page = write_report(study).read_text()
    assert "without cases" in page and "Value, over images" in page


def test_masks_have_intervals_over_cases_too(tmp_path):
    """Dice of an image is of its own confusion matrix, and the metric the mean over images: counted again for the cases of each draw."""
    rng, groups = np.random.default_rng(0), np.repeat([f"case{k}" for k in range(12)], 2)
    counts = rng.integers(1, 50, (24, 2, 3, 3))
    stored = {"split": np.array("test"), "ids": np.arange(24).astype(str), "groups": groups}
    stored |= {"background": np.array(0), "seg_linear_confusion": counts}
    where = {"step": 4, "patches_seen": 32, "task": "nuclei"}
    probe_records.write_probe(tmp_path / "arm" / "seed3", **where, results={}, predictions=stored)
    for metric, of in (("dice", dice), ("miou", miou)):
        written = probe_records.read_predictions(tmp_path / "arm" / "seed3", 4, "nuclei")
        found = scored(written, 3, "seg_linear", "test", metric)
        assert (found.seed, found.grouped, found.cases) == (3, True, 12)
        assert found.value == pytest.approx(np.mean([of(counts[:, head], 0) for head in range(2)]))
        _, group = np.unique(groups, return_inverse=True)
        picked = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=2000)[5]
        rows = np.repeat(np.arange(24), picked[group])
        assert found.values_S[5] == pytest.approx(np.mean([of(counts[rows, head], 0) for head in range(2)]))


def test_an_arm_that_does_not_beat_a_null_is_told(study):
    (table,) = tables_of(study)
    (sentence,) = table.sentences
    assert sentence.startswith(
        "teacher=m0.99 does not beat colour histogram in balanced accuracy (synthetic, linear, test): "
    )


def test_a_run_that_began_from_weights_has_a_row_for_them(study):
    for run in records.find_runs(study):
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(text + "init: {path: weights.pth}\n")
    (table,) = tables_of(study)
    assert "initialisation" in [row.name for row in table.rows] and "initialisation" in table.nulls


def test_predictions_of_other_samples_are_not_compared(study):
    add_predictions(records.find_runs(study)[0], 0.9, 0, ids=np.array([f"other{k}.png" for k in range(len(LABELS))]))
    assert tables_of(study) == []


def test_page_csv_and_markdown_hold_the_same_numbers(study):
    page = write_report(study).read_text()
    (table,) = tables_of(study)
    assert "Beside what has learned nothing" in page and table.sentences[0] in page
    rows = list(csv.DictReader((study / "report" / "nulls.csv").open()))
    assert [row["row"] for row in rows] == [row.name for row in table.rows]
    assert float(rows[0]["minus_random weights_low"]) == table.rows[0].differences["random weights"].low
    assert f"| random weights | {table.rows[2].value.value:.3f} [" in (study / "report" / "report.md").read_text()


def test_without_predictions_there_is_no_table(tmp_path):
    folder = write_study(tmp_path / "demo", {"teacher=m0.9": 0.0}, report=DEMO)
    assert tables_of(folder) == [] and "learned nothing" not in write_report(folder).read_text()


def test_of_few_cases_the_arms_that_are_not_above_a_null_in_the_mean_are_still_named():
    def row(arm, random, colour):
        differences = {"random weights": random, "colour histogram": colour}
        return NullRow(
            arm, arm, Estimate(0.5, None, None, 3), {k: Estimate(v, None, None, 3) for k, v in differences.items()}
        )

    rows = [row("t=a", -0.02, 0.1), row("t=b", 0.0, 0.1), row("t=c", 0.03, 0.1)]
    table = NullTable(ACCURACY, rows, ["random weights", "colour histogram"], 50, 8, True, [])
    few, below = _sentences(table, {"t=a": "t=a", "t=b": "t=b", "t=c": "t=c"})
    assert few.startswith("8 cases are too few") and below.endswith(": t=a, t=b.") and "random weights" in below
