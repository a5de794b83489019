"""The figure of a study: what is drawn is what the tables say, and the same numbers give the same files."""

import xml.etree.ElementTree as xml

import pytest
from fake_study import DEMO, write_study

from pathssl.report.comparison import choose_reading, compare_all
from pathssl.report.figure import arms_figure, write_figure
from pathssl.report.study import read_study

ARMS = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.03, "objective=$x_1$": -0.02}


@pytest.fixture
def compared(tmp_path):
    study = read_study(write_study(tmp_path / "s", ARMS, seeds=3, report=DEMO, pictures=False))
    return study, compare_all(study, choose_reading(study))[0]


def test_marks_stand_at_the_tables_numbers(compared):
    study, comparison = compared
    axes = arms_figure(study, comparison).axes[0]
    by_marker = {}
    for line in axes.lines:
        by_marker.setdefault((line.get_marker(), line.get_markerfacecolor() == "none"), []).append(
            list(line.get_xdata())
        )
    assert by_marker["D", False] == [[row.last.value] for row in comparison.rows]
    assert by_marker["o", True] == [[row.step0] for row in comparison.rows]
    assert by_marker["o", False] == [[value for _, value in row.values] for row in comparison.rows]
    bars = [[row.last.low, row.last.high] for row in comparison.rows]
    assert [xs for xs in by_marker["None", False] if xs in bars] == bars
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"{arm} *" if arm == comparison.baseline else arm for arm in study.arms]


def test_the_same_numbers_give_the_same_files_and_names_stay_text(compared, tmp_path):
    study, comparison = compared
    contents = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        contents.append([path.read_bytes() for path in write_figure(tmp_path / folder, study, comparison)])
    assert contents[0] == contents[1]
    texts = [element.text for element in xml.fromstring(contents[0][0]).iter("{http://www.w3.org/2000/svg}text")]
    assert {"teacher=m0.9 *", "teacher=m0.99", "objective=$x_1$"} <= set(texts)


def test_a_long_name_is_broken_and_leaves_room(tmp_path):
    long = ",".join(f"objective.part_{k}=value_{k}" for k in range(8))
    study = read_study(write_study(tmp_path / "s", {"objective=a": 0.0, f"objective=b,{long}": 0.1}, pictures=False))
    comparison = compare_all(study, choose_reading(study))[0]
    figure = arms_figure(study, comparison)
    figure.savefig(tmp_path / "figure.png", dpi=50)
    axes = figure.axes[0]
    assert axes.get_position().width > 0.5
    assert max(map(len, axes.get_yticklabels()[1].get_text().split("\n"))) <= 36
