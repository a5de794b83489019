"""An arm whose seeds scatter more than the others' is named, and what Welch's test says is given beside."""

import csv
import html
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from fake_study import ACCURACY, DEMO, write_points
from scipy import stats

from pathssl.report.comparison import choose_reading, compare_all
from pathssl.report.statistics import widest
from pathssl.report.study import read_study
from pathssl.report.unequal import unequal_variances
from pathssl.report.write import write_report

KNN = "probe/synthetic/knn/test/balanced_accuracy"
ALIKE = (-0.01, 0.0, 0.01)
REPORT = DEMO | {"baseline": "a", "metrics": [ACCURACY]}
RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results"


def study_of(folder, arms, report=REPORT, config=None, alike=()):
    """A folder of runs with these values of their seeds; config: of single arms; alike: other metrics, in which all arms are."""
    for arm, values in arms.items():
        of_arm = (config or {}).get(arm)
        for seed, value in enumerate(values):
            row = {"patches_seen": 0 if of_arm else 100, ACCURACY: value} | dict.fromkeys(alike, 0.5 + 0.01 * seed)
            write_points(folder / arm / f"seed{seed}", [row], report=report, config=of_arm)
    return folder


def found_in(folder):
    study = read_study(folder)
    reading = choose_reading(study)
    compared = compare_all(study, reading)
    return unequal_variances(study, reading, compared), {one.key: one for one in compared}


def around(mean, shifts, wide=1.0):
    return [mean + wide * shift for shift in shifts]


def test_an_arm_that_scatters_is_named_and_verdicts_that_hang_on_pooling_too(tmp_path):
    # b scatters ten times as much as a, c and d; c is told from a by Welch's test and not by the pooled one
    arms = {"a": around(0.7, ALIKE), "b": around(0.7, ALIKE, 10), "c": around(0.76, ALIKE), "d": around(0.7, ALIKE)}
    unequal, compared = found_in(study_of(tmp_path / "s", arms))
    found = unequal[ACCURACY]
    assert (found.widest.arm, found.widest.ratio) == ("b", pytest.approx(10))
    raw = {arm: stats.ttest_ind(arms[arm], arms["a"], equal_var=False).pvalue for arm in "bcd"}
    assert {arm: one.p for arm, one in found.welch.items()} == pytest.approx(raw)
    assert found.welch["c"].adjusted == pytest.approx(3 * raw["c"])  # the smallest of three, by Holm
    assert found.sentence == (
        "The seeds of b scatter 10.0 times as much as those of the other arms (standard deviations; p < 0.001 by Cochran's test "
        "among 4 arms): its interval and that of its difference are too short, those of the others are too wide. Welch's test, which "
        "pools no variance, says otherwise of 1 of 3 differences to a: c, told apart (p = 0.005 by Holm among 3 differences)."
    )
    # the verdict is that of the pooled variance all the same
    (c,) = [row for row in compared[ACCURACY].rows if row.arm == "c"]
    assert c.difference.told_apart is False


def test_what_is_said_of_a_wide_baseline_and_of_two_arms(tmp_path):
    arms = {"a": around(0.7, ALIKE, 20), "b": around(0.7, ALIKE), "c": around(0.71, ALIKE)}
    sentence = found_in(study_of(tmp_path / "baseline", arms))[0][ACCURACY].sentence
    assert (
        ": its interval and those of all differences to it are too short, those of the other arms' means too"
        in sentence
    )
    assert sentence.endswith("Welch's test, which pools no variance, tells no arm from a either.")
    two = {"a": around(0.5, ALIKE, 9), "b": around(0.9, ALIKE)}
    sentence = found_in(study_of(tmp_path / "two", two))[0][ACCURACY].sentence
    assert ": its interval is too short, that of the other arm too wide." in sentence
    assert sentence.endswith("tells the same arms from a.")


def test_a_difference_to_an_arm_that_scatters_is_doubted_where_welchs_test_does_not_find_it(tmp_path):
    arms = {"a": around(0.7, ALIKE), "b": around(0.81, ALIKE, 10), "c": around(0.7, ALIKE), "d": around(0.7, ALIKE)}
    arms |= {"e": around(0.7, ALIKE), "f": around(0.7, ALIKE)}
    unequal, compared = found_in(study_of(tmp_path / "s", arms))
    assert next(row.difference.told_apart for row in compared[ACCURACY].rows if row.arm == "b") is True
    raw = stats.ttest_ind(arms["b"], arms["a"], equal_var=False).pvalue
    end = f"b, cannot be told apart (p = {min(1, 5 * raw):.2f} by Holm among 5 differences), so do not build on it."
    assert unequal[ACCURACY].sentence.endswith(end)


def test_what_welchs_test_misses_for_want_of_seeds_between_two_other_arms_is_not_doubted(tmp_path):
    two = (-0.007, 0.007)
    arms = {"a": around(0.7, two), "b": around(0.7, ALIKE, 7), "c": around(0.82, two)}
    arms |= {arm: around(0.7, ALIKE) for arm in "defghijk"}
    sentence = found_in(study_of(tmp_path / "s", arms))[0][ACCURACY].sentence
    assert "says otherwise of 1 of 10 differences to a: c, cannot be told apart (p = " in sentence
    assert "do not build" not in sentence


def test_arms_that_are_alike_or_have_no_noise_are_not_spoken_of(tmp_path):
    for name, arms in {
        "alike": {"a": around(0.7, ALIKE), "b": around(0.8, ALIKE, 2), "c": around(0.6, ALIKE)},
        "one seed": {"a": [0.7], "b": [0.9], "c": [0.5]},
        "one with noise": {"a": around(0.7, ALIKE, 10), "b": [0.7] * 3, "c": [0.9]},
    }.items():
        folder = study_of(tmp_path / name, arms)
        assert found_in(folder)[0] == {}, name
    write_report(tmp_path / "alike")
    written = {name: (tmp_path / "alike/report" / name).read_text() for name in ("index.html", "report.md", "arms.csv")}
    assert [name for name, text in written.items() if "Cochran" in text] == []
    lines = list(csv.DictReader(written["arms.csv"].splitlines()))
    assert {line["unequal_variances"] + line["p_welch"] + line["welch_low"] for line in lines} == {""}


def test_the_chance_of_naming_an_arm_is_shared_among_the_metrics(tmp_path):
    arms = {"a": around(0.7, ALIKE), "b": around(0.7, ALIKE, 6.5), "c": around(0.7, ALIKE)}
    # F = 42.25: 3 (1 + 42.25 / 2)^-2 = 0.00613 of one metric; of nine 0.055
    assert ACCURACY in found_in(study_of(tmp_path / "one", arms))[0]
    many = [f"probe/task{k}/knn/test/balanced_accuracy" for k in range(8)]
    folder = study_of(tmp_path / "nine", arms, REPORT | {"metrics": [ACCURACY, *many]}, alike=many)
    assert found_in(folder)[0] == {}


def test_given_weights_are_one_value_for_welchs_test_too_and_do_not_count_as_an_arm_that_scatters(tmp_path):
    given = {"train": {"patches": 0}, "init": {"pretrained": True}}
    arms = {"a": [0.62], "b": around(0.7, ALIKE, 20), "c": around(0.7, ALIKE)}
    found = found_in(study_of(tmp_path / "s", arms, config={"a": given}))[0][ACCURACY]
    assert found.welch["c"].p == pytest.approx(stats.ttest_1samp(arms["c"], 0.62).pvalue)
    assert "among 2 arms): its interval and that of its difference are too short" in found.sentence


def test_random_weights_that_are_not_trained_are_no_arm_that_scatters(tmp_path):
    arms = {"a": around(0.7, ALIKE), "b": around(0.7, ALIKE, 50), "c": around(0.7, ALIKE)}
    assert found_in(study_of(tmp_path / "s", arms, config={"b": {"train": {"patches": 0}}}))[0] == {}


def test_arms_of_which_welchs_test_cannot_be_made_are_named(tmp_path):
    arms = {"a": around(0.7, ALIKE), "b": around(0.7, ALIKE, 20), "c": around(0.7, ALIKE), "d": [0.7]}
    found = found_in(study_of(tmp_path / "s", arms))[0][ACCURACY]
    assert found.sentence.endswith(
        "tells no arm from a either. It cannot be made of d, where seeds are too few or agree exactly."
    )
    arms = {"a": [0.7], "b": around(0.7, ALIKE, 20), "c": around(0.7, ALIKE)}
    assert found_in(study_of(tmp_path / "none", arms))[0][ACCURACY].sentence.endswith(
        "cannot be made here: seeds are too few, or agree exactly."
    )


@pytest.mark.parametrize(("wide", "rest", "lean"), [(3, 3, "."), (3, 8, " too short."), (8, 3, " too wide.")])
def test_of_two_arms_the_interval_of_the_difference_leans_with_the_numbers_of_seeds(wide, rest, lean, tmp_path):
    """By hand: what the difference's variance is, beside what pooling gives it, where one arm has twenty times the standard deviation."""
    arms = {"a": around(0.5, np.linspace(-0.01, 0.01, rest)), "b": around(0.5, np.linspace(-0.01, 0.01, wide), 20)}
    ends = found_in(study_of(tmp_path / "s", arms))[0][ACCURACY].sentence.split(" Welch")[0]
    assert ends.endswith(f"that of the other arm too wide{lean}" if wide == rest else f"that of their difference{lean}")
    pooled = ((wide - 1) * 400 + (rest - 1)) / (wide + rest - 2) * (1 / wide + 1 / rest)
    true = 400 / wide + 1 / rest
    assert true == pytest.approx(pooled) if wide == rest else (true > pooled) == (lean == " too short.")


@pytest.mark.parametrize("primary", [ACCURACY, KNN])
def test_page_markdown_latex_and_csv_say_it_once_in_the_same_words(tmp_path, primary):
    arms = {"a": around(0.7, ALIKE), "b": around(0.7, ALIKE, 10), "c": around(0.76, ALIKE)}
    report = REPORT | {
        "primary": primary,
        "metrics": [ACCURACY, KNN],
    }  # with k-NN as primary, it is outside of the family
    folder = study_of(tmp_path / "s", arms, report, alike=[KNN])
    found = found_in(folder)[0][ACCURACY]
    write_report(folder)
    page, markdown, tex = ((folder / "report" / name).read_text() for name in ("index.html", "report.md", "report.tex"))
    assert html.unescape(page).count(found.sentence) == markdown.count(found.sentence) == 1
    assert tex.count("scatter 10.0 times") == 1
    lines = list(csv.DictReader((folder / "report/arms.csv").read_text().splitlines()))
    assert {line["unequal_variances"] for line in lines if line["metric"] == ACCURACY} == {found.sentence}
    assert {line["unequal_variances"] for line in lines if line["metric"] == KNN} == {""}
    (b,) = [line for line in lines if (line["metric"], line["arm"]) == (ACCURACY, "b")]
    numbers = [float(b[name]) for name in ("sd", "welch_low", "welch_high", "p_welch")]
    theirs = stats.ttest_ind(arms["b"], arms["a"], equal_var=False)
    assert numbers == pytest.approx([0.1, *theirs.confidence_interval(0.95), theirs.pvalue])
    assert (b["p_welch_holm"] == "") is (primary == KNN)


def test_the_arm_of_a_study_that_was_run_is_named():
    arms = defaultdict(list)
    with open(RESULTS / "augmentation" / "runs.csv", newline="") as file:
        for row in csv.DictReader(file):
            arms[row["arm"]].append(float(row["unsupervised/stain_distance_0.05"]))
    found = widest(arms)
    others = [np.var(x, ddof=1) for arm, x in arms.items() if arm != "augmentation=dino_hed"]
    assert (found.arm, found.arms) == ("augmentation=dino_hed", 9)
    assert found.ratio == pytest.approx((np.var(arms["augmentation=dino_hed"], ddof=1) / np.mean(others)) ** 0.5)
    assert found.p * 5 < 0.001  # of five metrics
