"""What training did over step 0, and the warnings of a study that learned nothing."""

import pytest
from fake_study import ACCURACY, DEMO, write_points, write_study

from pathssl.report.comparison import choose_reading, compare_all
from pathssl.report.gain import gain_sentence, unlearned
from pathssl.report.nulls import NullRow, NullTable
from pathssl.report.statistics import Estimate
from pathssl.report.study import read_study
from pathssl.report.write import write_report

COLOUR = "unsupervised/stain_distance_0.05"


def study_of(folder, last, primary=ACCURACY, steps=(0, 1000)):
    """last: by arm, the last value of each seed; all begin at 0.6."""
    report = {"baseline": next(iter(last)), "primary": primary, "metrics": [primary]}
    for arm, values in last.items():
        for seed, value in enumerate(values):
            rows = [{"patches_seen": at, primary: value if at else 0.6} for at in steps]
            write_points(folder / arm / f"seed{seed}", rows, report=report)
    return folder


def found_in(folder, nulls=()):
    study = read_study(folder)
    reading = choose_reading(study)
    comparisons = compare_all(study, reading)
    return gain_sentence(comparisons[0]), unlearned(study, reading, comparisons, nulls)


def test_the_gain_over_step_0_is_told_for_all_runs_and_says_how_many_fell_below(tmp_path):
    sentence, warnings = found_in(study_of(tmp_path / "s", {"t=a": (0.7, 0.55), "t=b": (0.7, 0.7)}))
    assert "by +0.062 on average over 4 runs (from −0.050 to +0.100; 1 of them fell below their own step 0)" in sentence
    assert warnings == []


@pytest.mark.parametrize(
    ("last", "primary", "lead"),
    [
        ((0.5, 0.5, 0.7), ACCURACY, "On average, training did not help. "),
        ((0.59, 0.59, 0.9), ACCURACY, "Most runs ended worse than they began. "),
        ((0.5, 0.5, 0.7), COLOUR, None),  # less is better
        ((0.61, 0.61, 0.3), COLOUR, "Most runs ended worse than they began. "),
        ((0.6, 0.6, 0.6), ACCURACY, "On average, training did not help. "),
    ],
)
def test_a_gain_that_is_none_is_a_warning_whichever_way_is_better(tmp_path, last, primary, lead):
    sentence, warnings = found_in(study_of(tmp_path / "s", {"t=a": last}, primary))
    assert warnings == ([lead + sentence] if lead else [])


def test_a_study_that_has_only_begun_is_not_warned(tmp_path):
    assert found_in(study_of(tmp_path / "s", {"t=a": (0.6, 0.6)}, steps=(0,)))[1] == []


def a_null(**differences):
    """By arm, the difference to random weights and its lower end."""
    rows = [
        NullRow(
            arm, arm, Estimate(0.6, None, None, 2), {"random weights": Estimate(value, low, low and 2 * value - low, 2)}
        )
        for arm, (value, low) in differences.items()
    ]
    return NullTable(ACCURACY, rows, ["random weights"], 50, 12, True, [])


@pytest.mark.parametrize(
    ("a", "b", "ending"),
    [
        ((-0.02, None), (-0.01, None), "at best −0.010 (t=b), in the mean, without an interval."),
        ((-0.02, None), (0.01, None), None),
        ((0.03, -0.01), (0.02, -0.02), "at best +0.030 [−0.010, +0.070] (t=a), over cases."),
        ((0.03, 0.01), (0.02, -0.02), None),
    ],
)
def test_that_no_arm_beats_random_weights_is_a_warning(tmp_path, a, b, ending):
    folder = study_of(tmp_path / "s", {"t=a": (0.7, 0.8), "t=b": (0.7, 0.8)})
    _, warnings = found_in(folder, [a_null(**{"t=a": a, "t=b": b})])
    title = "No arm beats random weights in balanced accuracy (synthetic, linear, test): "
    assert warnings == ([title + ending] if ending else [])


def test_the_warning_stands_in_the_answer_and_at_the_top_of_the_markdown_in_place_of_the_plain_sentence(tmp_path):
    folder = study_of(tmp_path / "s", {"t=a": (0.5, 0.55), "t=b": (0.5, 0.52)})
    page, markdown = write_report(folder).read_text(), (folder / "report/report.md").read_text()
    sentence, (warning,) = found_in(folder)
    answer = page[page.index('<section id="answer"') : page.index("</section>")]
    assert f'<p class="notice">{warning}</p>' in answer and page.count(sentence) == 1
    assert markdown.count(sentence) == 1 and markdown.index(f"> {warning}") < markdown.index("\n## ")


def test_a_study_that_learned_has_the_plain_sentence(tmp_path):
    folder = write_study(tmp_path / "demo", {"teacher=m0.9": 0.0, "teacher=m0.99": 0.0}, report=DEMO, pictures=False)
    sentence, warnings = found_in(folder)
    assert warnings == [] and f"<p>{sentence}</p>" in write_report(folder).read_text()
    assert f"- {sentence}" in (folder / "report/report.md").read_text()
