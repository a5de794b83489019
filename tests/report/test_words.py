import pytest

from pathssl.report import words
from pathssl.report.statistics import Estimate


def test_metrics_are_written_for_people():
    key = "probe/synthetic/knn/test/balanced_accuracy"
    assert words.full_title(key) == "balanced accuracy (synthetic, k-NN, test)"
    assert words.title("unsupervised/rankme") == "RankMe"
    assert words.full_title("unsupervised/apart") == "distance between patches (unlabelled held-out patches)"
    assert words.context("train/loss") == "training"


def test_an_interval_that_holds_zero_never_looks_as_if_it_did_not():
    assert words.change(Estimate(0.014, -0.0001, 0.0281, 2), 3) == "+0.014 [−0.000, +0.028]"
    assert words.change(Estimate(-0.0, None, None, 1), 3) == "+0.000"


def test_a_number_that_rounds_to_zero_has_no_minus_sign_but_an_intervals_end_keeps_it():
    assert words.number(-0.0004, 3) == words.number(0.0, 3) == words.signed(-0.0004, 3) == "0.000"
    assert (words.number(-0.0006, 3), words.signed(-0.0006, 3)) == ("−0.001", "−0.001")
    assert words.change(Estimate(-0.0004, -0.9, 0.89, 2), 2) == "0.00 [−0.90, +0.89]"
    assert words.interval(Estimate(-0.2, -0.4, -0.0004, 2), 3) == "−0.200 [−0.400, −0.000]"


@pytest.mark.parametrize(
    ("hours", "text"), [(0.01, "36 s"), (0.2, "12 min"), (3.42, "3.4 h"), (47.0, "47.0 h"), (60.0, "2.5 days")]
)
def test_durations(hours, text):
    assert words.duration(hours) == text


@pytest.mark.parametrize(
    ("arms", "distinct", "short"),
    [
        (["teacher=m0.9", "teacher=m0.99"], ["teacher=m0.9", "teacher=m0.99"], ["m0.9", "m0.99"]),
        (["model=s,t=1", "model=s,t=2"], ["t=1", "t=2"], ["1", "2"]),
        (["model=s", "model=s,t=2"], ["model=s", "model=s,t=2"], ["model=s", "model=s,t=2"]),
        (["a=1,b=1", "a=1,b=2", "a=2,b=1"], ["a=1,b=1", "a=1,b=2", "a=2,b=1"], ["a=1,b=1", "a=1,b=2", "a=2,b=1"]),
        (["default"], ["default"], ["default"]),
        (["default", "t=2"], ["default", "t=2"], ["default", "t=2"]),
    ],
)
def test_arms_are_named_by_what_tells_them_apart(arms, distinct, short):
    assert list(words.distinct_names(arms).values()) == distinct
    assert list(words.short_names(arms).values()) == short


def test_what_names_leave_out_is_said_once():
    assert words.all_share(["model=s,a=2,t=1", "model=s,a=2,t=2"]).startswith("All arms share model=s,a=2: ")
    assert words.all_share(["t=1", "t=2"]) is None and words.all_share(["default"]) is None


@pytest.mark.parametrize(("value", "text"), [(5.998e12, "6.00 × 10¹²"), (1.0, "1.00"), (0.00123, "1.23 × 10⁻³")])
def test_large_numbers_have_three_digits_and_a_power_of_ten(value, text):
    assert words.powered(value) == text
