"""The front of quality against cost, by hand, with ties; and what the page says of it."""

import csv
import json

import pytest
from fake_study import ACCURACY, write_points

from pathssl.report.comparison import choose_reading, compare_all
from pathssl.report.pareto import dominating, pareto
from pathssl.report.study import read_study
from pathssl.report.write import write_report

COLOUR = "unsupervised/stain_distance_0.05"


def test_the_front_is_what_nothing_beats():
    #         cheap, bad  better     dearer, worse  best
    points = [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (4.0, 0.9)]
    assert dominating(points) == [[], [], [1], []]


def test_of_equal_cost_the_better_and_of_equal_quality_the_cheaper_is_on_the_front_and_equals_both_are():
    assert dominating([(1.0, 0.5), (1.0, 0.7)]) == [[1], []]
    assert dominating([(1.0, 0.5), (2.0, 0.5)]) == [[], [0]]
    assert dominating([(1.0, 0.5), (1.0, 0.5), (2.0, 0.5)]) == [[], [], [0, 1]]


def study_of(folder, arms, primary=ACCURACY, compute=True):
    """arms: {name: (FLOPs a patch, seconds in all of each seed, last value of each seed)}; 1000 patches."""
    report = {"baseline": next(iter(arms)), "primary": primary, "metrics": [primary]}
    for arm, (flops, times, values) in arms.items():
        for seed, (time_s, value) in enumerate(zip(times, values, strict=True)):
            rows = [{"patches_seen": 0, "time_s": 0.0, primary: 0.5}]
            rows += [{"patches_seen": 1000, "time_s": time_s, primary: value}]
            cost = {"flops_per_patch": flops, "processes": 2} if compute else None
            write_points(folder / arm / f"seed{seed}", rows, report=report, compute=cost)
    return folder


ARMS = {
    "m=a": (10, (1800, 3600), (0.60, 0.64)),
    "m=b": (20, (7200, 7200), (0.70, 0.72)),
    "m=c": (40, (9000, 9000), (0.66, 0.68)),
}


def found_in(folder):
    study = read_study(folder)
    reading = choose_reading(study)
    return pareto(study, reading, compare_all(study, reading))


def test_costs_are_means_over_runs_with_their_range_and_the_front_is_told(tmp_path):
    found = found_in(study_of(tmp_path / "s", ARMS))
    hours, flops = found.fronts
    a = hours.points[0]
    assert (a.cost, a.low, a.high) == pytest.approx((1.5, 1.0, 2.0))  # two processes of 0.5 and 1 h
    assert [point.cost for point in flops.points] == [10_000, 20_000, 40_000]
    assert hours.beaten_by == flops.beaten_by == {"m=a": [], "m=b": [], "m=c": ["m=b"]}
    assert hours.sentence == (
        "Against device-hours, 2 arms of 3 on the front: m=a, m=b. Not on it: m=c (m=b is no worse and no dearer). But device-hours are no "
        "measure of the arms here: runs of m=a, which do equal work, took times up to 2.0 to 1: how busy the machine was, or which one it "
        "was, is in the hours."
    )
    assert hours.chart.count('class="marker') == 3 and hours.chart.count('class="name') == 2
    assert "may change places" in found.notes[0] and "higher is better" in found.notes[0]


def test_where_less_is_better_the_lowest_is_best(tmp_path):
    found = found_in(study_of(tmp_path / "s", ARMS, primary=COLOUR))
    assert found.fronts[0].beaten_by == {"m=a": [], "m=b": ["m=a"], "m=c": ["m=a"]}
    assert "lower is better" in found.notes[0]


def test_arms_of_one_cost_are_nothing_to_trade_and_tie_whatever_their_seeds(tmp_path):
    arms = {"m=a": (7, (180,) * 3, (0.60, 0.61, 0.62)), "m=b": (7, (180,) * 2, (0.7, 0.71))}
    hours, flops = found_in(study_of(tmp_path / "s", arms)).fronts
    assert flops.sentence == "Every arm cost 7.00 × 10³ FLOPs: there is nothing to trade quality for."
    assert hours.chart is flops.chart is None and hours.beaten_by == flops.beaten_by == {"m=a": ["m=b"], "m=b": []}


def test_hours_that_differ_at_equal_flops_are_not_called_a_cost_of_the_setting(tmp_path):
    said = "But all arms cost equal FLOPs: a difference in device-hours is of what these leave out"
    for name, (flops, times, expected) in {
        "alike": (7, (300, 310), True),
        "busy": (7, (300, 3000), False),  # seeds of one arm that differ say it already
        "dearer": (8, (300, 310), False),
    }.items():
        arms = {"m=a": (7, (180, 180), (0.60, 0.61)), "m=b": (flops, times, (0.7, 0.71))}
        hours, of_flops = found_in(study_of(tmp_path / name, arms)).fronts
        assert (said in hours.sentence) == expected and hours.chart is not None and said not in of_flops.sentence
        assert ("no measure of the arms" in hours.sentence) == (name == "busy")


def test_without_compute_json_it_says_why(tmp_path):
    found = found_in(study_of(tmp_path / "s", ARMS, compute=False))
    assert found.known == [] and all("no compute.json" in front.sentence for front in found.fronts)
    report = write_report(tmp_path / "s").parent
    assert "no compute.json" in (report / "index.html").read_text()
    assert not [*report.glob("pareto.*")]


def test_files_have_the_numbers_of_the_page(tmp_path):
    report = write_report(study_of(tmp_path / "s", ARMS)).parent
    page, text, tex = ((report / name).read_text() for name in ("index.html", "report.md", "pareto.tex"))
    for shown in (page, text, tex):
        assert "1.50 (1.00 to 2.00)" in shown.replace("1.5 (1 to 2)", "1.50 (1.00 to 2.00)") and "no dearer" in shown
    lines = {(line["cost"], line["arm"]): line for line in csv.DictReader((report / "pareto.csv").open())}
    assert len(lines) == 6 and lines["hours", "m=c"]["dominated_by"] == "m=b"
    assert (lines["hours", "m=a"]["on_front"], float(lines["hours", "m=a"]["most_cost"])) == ("True", 2.0)


def test_where_no_clock_reaches_the_checkpoint_there_is_a_reason_and_no_chart(tmp_path):
    folder = study_of(tmp_path / "s", ARMS)
    for path in folder.glob("*/*/metrics.jsonl"):  # probes that are beyond the last line
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[-1].pop("time_s")
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    hours, flops = found_in(folder).fronts
    assert hours.why_not and hours.chart is None and flops.chart is not None
    write_report(folder)
