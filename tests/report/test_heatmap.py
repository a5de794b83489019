"""Every task at once: effect sizes by hand, which metric stands for a protocol, plain numbers without noise, and text that can be read."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from fake_study import ACCURACY, DEMO, write_study

import pathssl.report
from pathssl import probe_records, records
from pathssl.report.comparison import choose_reading, compare_all
from pathssl.report.heatmap import STRENGTH, heat_map, heat_view
from pathssl.report.study import read_study
from pathssl.report.write import write_report

ARMS = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.08, "teacher=m0.999": -0.08}


def add(folder, results, task="nuclei"):
    """`results` at the last checkpoint of every run, a little higher with each."""
    for place, run in enumerate(records.find_runs(folder)):
        last = probe_records.read_probes(run)[-1]
        own = {key: value + 0.01 * place**2 for key, value in results.items()}
        probe_records.write_probe(run, step=last["step"], patches_seen=last["patches_seen"], task=task, results=own)
    return folder


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "demo", ARMS, seeds=3, report=DEMO)


def map_of(folder):
    study = read_study(folder)
    reading = choose_reading(study)
    return heat_map(study, reading, compare_all(study, reading)), study


def test_a_cell_is_the_difference_of_means_in_pooled_standard_deviations(study):
    found, read = map_of(study)
    (column,) = [column for column in found.columns if column.key == ACCURACY]
    values = {arm: [run.series[ACCURACY].values[-1] for run in read.of(arm)] for arm in ARMS}
    sd = np.sqrt(np.mean([np.var(x, ddof=1) for x in values.values()]))
    for arm in list(ARMS)[1:]:
        difference = np.mean(values[arm]) - np.mean(values["teacher=m0.9"])
        assert column.cells[arm].difference == pytest.approx(difference)
        assert column.cells[arm].effect == pytest.approx(difference / sd)
    assert column.cells["teacher=m0.9"].difference is None


def test_the_main_metric_stands_for_a_protocol_on_test_where_there_is_one(study):
    add(study, {"seg_conv/test/miou": 0.4, "seg_conv/test/dice": 0.5, "seg_conv/val/dice": 0.6})
    add(study, {"eva/val/balanced_accuracy": 0.4, "eva/val/auroc": 0.4, "eva_random_weights/val/f1": 0.3}, "bach")
    add(study, {"few_shot/test/16shot_balanced_accuracy": 0.4, "few_shot/test/4shot_balanced_accuracy": 0.3}, "shots")
    found, _ = map_of(study)
    keys = {column.key: column.validation for column in found.columns}
    assert keys == {
        "probe/bach/eva/val/balanced_accuracy": True,
        "probe/nuclei/seg_conv/test/dice": False,
        "probe/shots/few_shot/test/4shot_balanced_accuracy": False,
        "probe/synthetic/knn/test/balanced_accuracy": False,
        ACCURACY: False,
    }
    assert any(note.startswith("* on validation") for note in found.notes)


def test_one_seed_gives_plain_differences_without_colour_and_says_so(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS, seeds=1, report=DEMO)
    found, read = map_of(folder)
    assert all(cell.effect is None for column in found.columns for cell in column.cells.values())
    (note,) = found.notes
    assert note.startswith("Plain differences without colour: one seed in each arm gives no interval")
    view = heat_view(found, read)
    assert view["scale"] == [] and not any(cell["side"] for _, cells in view["rows"] for cell in cells)
    page = write_report(folder).read_text()
    assert note in page and "--share" not in re.search(r'<table class="heatmap">.*?</table>', page, re.S)[0]


def test_no_cell_speaks_by_colour_alone(study):
    """The sign of the number is that of the colour, whichever way is better."""
    add(study, {"linear/test/stain_flips_0.05": 0.1}, "stains")
    found, read = map_of(study)
    assert any(note.startswith("Lower is better: stains, linear") for note in found.notes)
    for column, cells in zip(
        found.columns, zip(*(cells for _, cells in heat_view(found, read)["rows"]), strict=True), strict=True
    ):
        lower = "stain_flips" in column.key
        for cell in cells[1:]:
            assert cell["main"][0] in "+−" and cell["below"][0] in "+−"
            assert cell["side"] == ("better" if (cell["main"][0] == "+") != lower else "worse")


def test_the_text_of_the_strongest_cells_has_the_contrast_that_wcag_asks_for():
    css = Path(pathssl.report.__file__).with_name("page.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")[:2]
    values = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light))
    for scheme in (values, values | dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", dark.split("}\n}")[0]))):
        for side in ("arm0", "arm4"):
            share = STRENGTH / 100
            mixed = [share * a + (1 - share) * b for a, b in zip(rgb(scheme[side]), rgb(scheme["card"]), strict=True)]
            low, high = sorted((luminance(mixed), luminance(rgb(scheme["ink"]))))
            assert (high + 0.05) / (low + 0.05) > 4.5


def rgb(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_page_csv_markdown_and_latex_hold_the_same_numbers(study):
    page = write_report(study).read_text()
    found, _ = map_of(study)
    cell = found.columns[-1].cells["teacher=m0.99"]
    text, below = f"{cell.effect:+.1f}", f"{cell.difference:+.3f}"
    assert f"<strong>{text}</strong> <span>{below}</span>" in page
    assert f"{text} ({below})" in (study / "report" / "report.md").read_text()
    assert f"{text} ({below})" in (study / "report" / "heatmap.tex").read_text()
    rows = list(csv.DictReader((study / "report" / "heatmap.csv").open()))
    assert float(rows[-2]["difference_in_sd"]) == cell.effect and rows[-2]["arm"] == "teacher=m0.99"


def test_one_arm_has_no_map(tmp_path):
    folder = write_study(tmp_path / "demo", {"teacher=m0.9": 0.0}, report=DEMO)
    assert map_of(folder)[0] is None and 'id="heatmap"' not in write_report(folder).read_text()
