"""What experiments/results says of the studies that were run: its tables follow from its runs, and the list's verdicts from its tables."""

import csv
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
STUDIES = sorted(path.name for path in (EXPERIMENTS / "results").iterdir())


def rows(study: str, name: str) -> list[dict[str, str]]:
    with open(EXPERIMENTS / "results" / study / name, newline="") as file:
        return list(csv.DictReader(file))


def report_of(study: str) -> dict:
    """What the study is judged by at scale=tiny."""
    conf = EXPERIMENTS.parent / "conf"
    report = yaml.safe_load((conf / "report" / "tiny.yaml").read_text())
    for file in (EXPERIMENTS / f"{study}.yaml", conf / "grid" / study / "tiny.yaml"):
        report |= yaml.safe_load(file.read_text()).get("report", {})
    return report


def holm(p: np.ndarray) -> np.ndarray:
    """By its definition: the i-th smallest of m times (m - i), never below the one before."""
    adjusted, largest = np.empty_like(p), 0.0
    for i, place in enumerate(np.argsort(p)):
        largest = max(largest, min(1.0, p[place] * (len(p) - i)))
        adjusted[place] = largest
    return adjusted


def test_the_studies_that_must_have_run_are_there():
    assert {"teacher_momentum", "augmentation", "magnification"} <= set(STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_every_arm_has_three_finished_seeds(study):
    seeds = defaultdict(list)
    for row in rows(study, "runs.csv"):
        assert row["state"] == "finished" and row["step"] == row["total_steps"]
        seeds[row["arm"]].append(int(row["seed"]))
    assert len(seeds) >= 2 and all(sorted(found) == [0, 1, 2] for found in seeds.values())


@pytest.mark.parametrize("study", STUDIES)
def test_the_table_follows_from_the_runs(study):
    report = report_of(study)
    key, baseline = report["primary"], report["baseline"]
    values = defaultdict(list)
    for row in rows(study, "runs.csv"):
        values[row["arm"]].append(float(row[key]))
    table = {row["arm"]: row for row in rows(study, "arms.csv") if row["metric"] == key}
    assert table.keys() == values.keys()
    df = sum(len(x) - 1 for x in values.values())
    sd = (sum(((np.array(x) - np.mean(x)) ** 2).sum() for x in values.values()) / df) ** 0.5
    others = [arm for arm in table if arm != baseline]
    error = sd * (2 / 3) ** 0.5
    differences = np.array([np.mean(values[arm]) - np.mean(values[baseline]) for arm in others])
    p = 2 * stats.t.sf(np.abs(differences) / error, df)
    half = stats.t.ppf(0.975, df) * error
    for arm, difference, raw, adjusted in zip(others, differences, p, holm(p), strict=True):
        row = table[arm]
        found = [float(row[name]) for name in ("difference", "difference_low", "difference_high", "p", "p_holm")]
        assert found == pytest.approx([difference, difference - half, difference + half, raw, adjusted], abs=1e-9)
        assert row["told_apart"] == str(bool(adjusted <= 0.05))


@pytest.mark.parametrize("study", STUDIES)
def test_the_verdict_in_the_list_follows_from_the_table(study):
    report = report_of(study)
    (line,) = re.findall(rf"^\| \[{study}\].*$", (EXPERIMENTS / "README.md").read_text(), re.M)
    table = [row for row in rows(study, "arms.csv") if row["metric"] == report["primary"] and row["difference"]]
    told = {row["arm"].partition("=")[2] for row in table if row["told_apart"] == "True"}
    named = re.findall(r"told apart: `([^`]+)`", line)
    assert {*named} == told
    assert told or ("none of" in line and "can be told apart" in line)
    for row in table:  # every difference is there, with its interval
        shown = [
            f"{float(row[name]):+.3f}".replace("-", "−") for name in ("difference", "difference_low", "difference_high")
        ]
        assert "{} [{}, {}]".format(*shown) in line, row["arm"]
    assert f"results/{study}/report.md" in line and f"results/{study}/figure.svg" in line
