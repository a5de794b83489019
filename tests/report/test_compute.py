"""Arms at equal patches, hours and FLOPs: the budgets, the values there and their differences, each computed by hand."""

import csv
import json

import numpy as np
import pytest
from fake_study import ACCURACY, write_points
from scipy import stats

from pathssl.report.comparison import choose_reading, compare_all
from pathssl.report.compute import equal_compute
from pathssl.report.pareto import pareto
from pathssl.report.study import read_study
from pathssl.report.write import write_report

RANKME = "unsupervised/rankme"
REPORT = {"baseline": "model=s", "primary": ACCURACY, "metrics": [ACCURACY, RANKME], "family": [ACCURACY]}
# arm: FLOPs a patch, processes, seconds a patch, test accuracies of two seeds at 0, 1000 and 2000 patches
ARMS = {
    "model=s": (10, 1, 0.36, [(0.5, 0.60, 0.64), (0.5, 0.62, 0.66)]),
    "model=l": (40, 2, 0.72, [(0.5, 0.70, 0.80), (0.5, 0.71, 0.81)]),
    "model=m": (20, 1, 0.54, [(0.5, 0.55, 0.67), (0.5, 0.59, 0.65)]),
}


def rows(values, second, at=(0, 1000, 2000)):
    return [
        {"patches_seen": x, "time_s": second * x, ACCURACY: value, RANKME: 10 * value}
        for x, value in zip(at, values, strict=True)
    ]


@pytest.fixture
def folder(tmp_path):
    for arm, (flops, processes, second, seeds) in ARMS.items():
        for seed, values in enumerate(seeds):
            run = tmp_path / "sizes" / arm / f"seed{seed}"
            cost = {"flops_per_patch": flops, "processes": processes}
            write_points(run, rows(values, second), report=REPORT, compute=cost)
    return tmp_path / "sizes"


def found_in(folder):
    study = read_study(folder)
    reading = choose_reading(study)
    return equal_compute(study, reading, compare_all(study, reading))


def values_of(budget):
    return {row.arm: [value for _, value in row.values] for row in budget.comparisons[0].rows}


def test_each_budget_is_the_largest_that_all_runs_reached_and_values_there_lie_between_a_runs_own_checkpoints(folder):
    patches, hours, flops = found_in(folder).budgets
    assert (patches.amount, flops.amount) == (2000, 20_000)  # s: 2000 x 10
    assert hours.amount == pytest.approx(0.2)  # s: 2000 x 0.36 s of one process; l: 2000 x 0.72 s of two, 0.8 h
    assert values_of(patches) == {arm: [seed[-1] for seed in of[3]] for arm, of in ARMS.items()}
    # l had cost 0.2 h after 500 patches, half of its way to 1000; m after 1333.3, a third of its way from 1000 to 2000
    assert values_of(hours)["model=l"] == pytest.approx([0.60, 0.605])
    assert values_of(hours)["model=m"] == pytest.approx([0.55 + 0.12 / 3, 0.59 + 0.06 / 3])
    # of FLOPs l had 20000 after 500 patches too, m after 1000
    assert values_of(flops)["model=l"] == pytest.approx([0.60, 0.605])
    assert values_of(flops)["model=m"] == pytest.approx([0.55, 0.59])
    assert values_of(flops)["model=s"] == [0.64, 0.66]


def test_differences_are_students_with_the_spread_pooled_at_the_budget_and_p_by_holm(folder):
    flops = found_in(folder).budgets[2]
    values = {"s": [0.64, 0.66], "l": [0.60, 0.605], "m": [0.55, 0.59]}
    sd = (sum(np.var(x, ddof=1) for x in values.values()) / 3) ** 0.5  # one degree of freedom in each of three arms
    by_arm = {row.arm: row.difference for row in flops.comparisons[0].rows}
    p = {}
    for arm in "lm":
        change, half = np.mean(values[arm]) - 0.65, stats.t.ppf(0.975, 3) * sd
        one = by_arm[f"model={arm}"]
        assert (one.value, one.low, one.high) == pytest.approx((change, change - half, change + half))
        p[arm] = 2 * stats.t.sf(abs(change) / sd, 3)
    smaller, larger = sorted(p, key=p.get)
    assert by_arm[f"model={smaller}"].adjusted == pytest.approx(2 * p[smaller])
    assert by_arm[f"model={larger}"].adjusted == pytest.approx(max(2 * p[smaller], p[larger]))


def test_it_says_where_verdicts_are_those_of_the_last_checkpoint_and_where_not(folder):
    patches, hours, flops = found_in(folder).budgets
    same = "2\u202f000 patches, as every run had): all 2 verdicts are those of the last checkpoint."
    assert patches.agreement == f"Equal patches seen ({same}"
    assert hours.agreement == (
        "Equal device-hours (0.2 device-hours, of up to 0.8 that a run had): 2 of 2 verdicts not as at the last checkpoint. "
        "In balanced accuracy (synthetic, linear, test): model=l lower (there: higher); model=m lower (there: cannot be told apart)."
    )
    assert "2.00 × 10⁴ FLOPs" in flops.agreement


def test_a_run_whose_checkpoints_do_not_reach_the_budget_has_no_value_there(folder):
    for seed in (0, 1):
        metrics = folder / "model=l" / f"seed{seed}" / "metrics.jsonl"
        rows_ = [json.loads(line) for line in metrics.read_text().splitlines()]
        del rows_[2][ACCURACY]  # probed there, but not on this task
        metrics.write_text("".join(json.dumps(row) + "\n" for row in rows_))
    found = found_in(folder)
    assert [values_of(budget)["model=l"] for budget in found.budgets[1:]] == [pytest.approx([0.60, 0.605])] * 2
    assert values_of(found.budgets[0])["model=l"] == []


def test_an_axis_that_cannot_be_had_says_why(folder):
    (folder / "model=m" / "seed1" / "compute.json").unlink()
    patches, hours, flops = found_in(folder).budgets
    assert patches.why_not is None
    assert "model=m, seed 1 has no compute.json" in hours.agreement and hours.comparisons == []
    assert "model=m, seed 1 has no compute.json" in flops.agreement and "not to be had" in flops.agreement


def test_without_time_there_are_no_hours_but_flops(tmp_path):
    for arm in ("model=s", "model=l"):
        for seed in (0, 1):
            of = [
                {key: value for key, value in row.items() if key != "time_s"}
                for row in rows((0.5, 0.6, 0.7 + seed / 50), 1)
            ]
            cost = {"flops_per_patch": 10, "processes": 1}
            write_points(tmp_path / "t" / arm / f"seed{seed}", of, report=REPORT, compute=cost)
    _, hours, flops = found_in(tmp_path / "t").budgets
    assert hours.why_not == "model=l, seed 0 (and 3 other runs) has no time_s in its metrics.jsonl"
    assert flops.why_not is None


@pytest.mark.parametrize(
    ("devices", "hosts", "said"),
    [
        ((["H100"], ["A100"]), ("a", "b"), "different devices (A100, H100): their hours are no common measure"),
        ((["H100"], ["H100"]), ("a", "b"), "different machines (a, b)"),
        ((["H100"], ["H100"]), ("a", "a"), None),
    ],
)
def test_hours_of_unlike_machines_are_shown_and_said_to_be_unlike(tmp_path, devices, hosts, said):
    for arm, gpus, host in zip(("model=s", "model=l"), devices, hosts, strict=True):
        for seed in (0, 1):
            run = tmp_path / "t" / arm / f"seed{seed}"
            cost = {"flops_per_patch": 10, "processes": 1}
            made = {"environment": {"gpus": gpus, "cpu": "x"}, "host": host}
            write_points(run, rows((0.5, 0.6, 0.7 + seed / 50), 1), report=REPORT, compute=cost, **made)
    found = found_in(tmp_path / "t")
    assert "GPU-hours" in found.budgets[1].text and found.budgets[1].comparisons
    unlike = [note for note in found.notes if "different" in note]
    assert (said in unlike[0]) if said else unlike == []


def test_an_arm_that_is_not_trained_stands_at_step_0_and_sets_no_budget(folder):
    for seed in (0, 1):
        of = [{"patches_seen": 0, "time_s": 0.0, ACCURACY: 0.45}]
        write_points(folder / "model=none" / f"seed{seed}", of, report=REPORT, config={"train": {"patches": 0}})
    for budget in found_in(folder).budgets:
        assert budget.amount > 0 and values_of(budget)["model=none"] == [0.45, 0.45]


def test_files_have_the_numbers_of_the_page(folder):
    report = write_report(folder).parent
    page, text, tex = ((report / name).read_text() for name in ("index.html", "report.md", "compute.tex"))
    lines = list(csv.DictReader((report / "compute.csv").open()))
    assert [line["at"] for line in lines] == ["last"] * 3 + ["patches"] * 3 + ["hours"] * 3 + ["flops"] * 3
    line = next(line for line in lines if (line["at"], line["arm"]) == ("flops", "model=l"))
    assert float(line["difference"]) == pytest.approx(0.6025 - 0.65) and float(line["budget"]) == 20_000
    assert "encoders alone" in page and "encoders alone" in text and "encoders alone" in tex
    for shown in (page, text, tex.replace("$-$", "−")):
        assert "−0.048" in shown or "−0.047" in shown


def test_one_arm_has_no_such_section(tmp_path):
    write_points(tmp_path / "t" / "model=s" / "seed0", rows((0.5, 0.6, 0.7), 1), report=REPORT)
    report = write_report(tmp_path / "t").parent
    assert 'id="compute"' not in (report / "index.html").read_text()
    assert not [*report.glob("compute.*")]


def test_hours_in_which_the_machine_s_load_is_make_no_verdicts(tmp_path):
    for arm, (flops, processes, second, seeds) in ARMS.items():
        for seed, values in enumerate(seeds):
            slower = 1.4 if (arm, seed) == ("model=m", 1) else 1.0
            cost = {"flops_per_patch": flops, "processes": processes}
            run = tmp_path / "sizes" / arm / f"seed{seed}"
            write_points(run, rows(values, slower * second), report=REPORT, compute=cost)
    study = read_study(tmp_path / "sizes")
    reading = choose_reading(study)
    comparisons = compare_all(study, reading)
    by_kind = {one.kind: one for one in equal_compute(study, reading, comparisons).budgets}
    assert "runs of model=m, which do equal work, took times up to 1.4 to 1" in by_kind["hours"].agreement
    assert by_kind["hours"].comparisons == [] and by_kind["flops"].why_not is None
    fronts = {one.kind: one.sentence for one in pareto(study, reading, comparisons).fronts}
    assert "are no measure of the arms here: runs of model=m" in fronts["hours"]
    assert "no measure" not in fronts["flops"]
