import xml.etree.ElementTree as xml

import numpy as np
import pytest
from fake_study import ACCURACY, write_study

from pathssl.report import charts, words
from pathssl.report.curves import Band, curves
from pathssl.report.statistics import Estimate
from pathssl.report.study import read_study
from pathssl.report.svg import axis, drawing, spaced


def test_an_axis_maps_its_ends_to_its_pixels_and_has_round_ticks():
    x = axis([0.0, 640_000.0], 40, 366, 4)
    assert (x(0), x(640_000), x(320_000)) == (40, 366, 203)
    assert x.ticks == (0, 200_000, 400_000, 600_000)


def test_an_axis_of_equal_values_still_has_a_width():
    assert axis([0.5, 0.5], 0, 100, 3)(0.5) == 50


@pytest.fixture
def drawn(tmp_path):
    arms = {"a=<b>": 0.0, "a=m0.99": 0.0}
    study = read_study(write_study(tmp_path / "demo", arms, seeds=2))
    found = curves(study, ACCURACY, study.runs)
    return xml.fromstring(charts.line_chart(found, "described", words.short_names(study.arms), 3))


def test_a_chart_is_well_formed_described_and_named_directly(drawn):
    assert (drawn.get("role"), drawn.get("aria-label")) == ("img", "described")
    names = [text.text for text in drawn.iter("text") if "name" in text.get("class")]
    assert sorted(names) == ["<b>", "m0.99"]


def test_every_seed_and_mean_has_a_line_with_a_tooltip_inside_the_chart(drawn):
    lines = list(drawn.iter("polyline"))
    titles = {line.find("title").text for line in lines}
    assert {"a=m0.99, seed 1", "a=m0.99, mean of 2 seeds", "a=<b>, seed 0"} < titles
    assert len(lines) == 6
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        assert all(0 <= x <= 380 and 0 <= y <= 240 for x, y in points)


def test_an_interval_is_drawn_at_its_place():
    scale = axis([0.0, 1.0], 0, 100, 3)
    svg = xml.fromstring(charts.interval_chart(scale, Estimate(0.5, 0.25, 0.75, 2), [(0, 0.4), (1, 0.6)], 0, 3))
    bar = next(line for line in svg.iter("line") if "interval" in line.get("class"))
    assert (bar.get("x1"), bar.get("x2")) == ("25", "75")
    assert [circle.get("cx") for circle in svg.iter("circle")] == ["40", "60", "50"]


def test_names_that_would_overlap_are_moved_apart():
    assert spaced([10.0, 12.0, 80.0], 0, 90) == pytest.approx([10 - 11 / 3, 23 - 11 / 3, 80 - 11 / 3])


def test_names_at_a_charts_edge_stay_within_it():
    assert spaced([88.0, 89.0, 89.0], 10, 90) == pytest.approx([64, 77, 90])
    assert spaced([10.0, 11.0], 10, 90) == pytest.approx([10, 23])


def test_all_that_is_drawn_of_an_arm_is_in_groups_that_bear_its_number(drawn):
    groups = [group for group in drawn.iter("g") if group.get("data-arm") == "1"]
    inside = [element.get("class") for group in groups for element in group]
    assert inside == ["band arm1", "seed arm1", "seed arm1", "mean arm1", *["marker arm1"] * 5, "name arm1"]
    assert [element for element in drawn if "arm" in element.get("class", "")] == []


def test_a_band_follows_its_numbers_breaks_where_there_are_none_and_is_cut_at_the_charts_edge():
    x = y = axis([0.0, 100.0], 0, 100, 3)
    low, high = np.array([10, np.nan, 20, -50.0]), np.array([30, np.nan, 40, 60.0])
    svg = drawing(100, 100, None)
    charts._band(svg, Band(np.array([0.0, 40, 60, 100]), low, high), x, y, 0)
    assert [band.get("points") for band in svg] == ["60,20 100,0 100,60 60,40"]


def test_nine_arms_differ_by_more_than_colour_in_lines_in_points_and_in_the_legend(tmp_path):
    arms = {f"a={k}": 0.0 for k in range(9)}
    study = read_study(write_study(tmp_path / "demo", arms, seeds=1, lines=40, pictures=False))
    for metric in (ACCURACY, "train/loss"):  # five points, and forty
        svg = xml.fromstring(charts.line_chart(curves(study, metric, study.runs), "", words.short_names(study.arms), 3))
        means = {
            line.find("title").text.partition(",")[0]: line
            for line in svg.iter("polyline")
            if "mean" in line.get("class")
        }
        assert [means[arm].get("stroke-dasharray") is None for arm in study.arms] == [True] * 7 + [False] * 2
        look = {arm: (line.get("class"), line.get("stroke-dasharray")) for arm, line in means.items()}
        assert len(set(look.values())) == 9
        marks = [
            [e for g in svg.iter("g") if g.get("data-arm") == str(k) for e in g if "marker" in e.get("class")]
            for k in range(9)
        ]
        assert all(5 <= len(found) <= 7 for found in marks), [len(found) for found in marks]
        assert (marks[0][0].tag, marks[7][0].tag) == ("circle", "polygon")  # the same colour
    legend = [charts.swatch(style) for style in range(9)]
    assert len(set(legend)) == 9 and ["stroke-dasharray" in one for one in legend] == [False] * 7 + [True] * 2


def test_of_many_points_some_are_marked_and_neighbouring_arms_mark_others():
    assert [*charts._marked(16, 3)] == [*range(16)]
    assert [*charts._marked(40, 0)] == [0, 7, 14, 21, 28, 35] and [*charts._marked(40, 2)] == [3, 10, 17, 24, 31, 38]
    assert len({charts._marked(17, style).start for style in range(4)}) > 1
