"""How the report's files name the arms."""

import csv
import re

from fake_study import DEMO, write_study

from pathssl import records
from pathssl.report.write import write_report


def test_markdown_and_latex_name_arms_as_the_page_does_and_say_once_what_all_share(tmp_path):
    arms = {f"teacher=m0.{k},model=s": 0.01 * k for k in (9, 99)}
    folder = write_study(tmp_path / "demo", arms, report=DEMO | {"baseline": "teacher=m0.9,model=s"}, pictures=False)
    for run in records.find_runs(folder):
        records.write_compute(run, flops_per_patch=records.seed_of(run) + 7, processes=1)
    report = write_report(folder).parent
    lines = [line for line in (report / "report.md").read_text().splitlines() if "model=s" in line]
    assert lines == ["All arms share model=s: their names here leave it out, and those in CSV files keep it."]
    for path in report.glob("*.tex"):
        text = path.read_text()
        assert "teacher=m0.99" in text and "model=s" not in re.sub("(?m)^% All arms share model=s: .*$", "", text)
    assert {row["arm"] for row in csv.DictReader((report / "arms.csv").open())} == set(arms)
