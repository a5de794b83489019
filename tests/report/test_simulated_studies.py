"""benchmarks/simulated_studies.py: verdicts and intervals over 2,000 studies whose truth is known."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "simulated_studies.py"
_SPEC = importlib.util.spec_from_file_location("simulated_studies", SCRIPT)
simulated = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(simulated)


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "seeds"), simulated.SIZES)
def test_intervals_cover_and_families_without_effect_stay_silent(arms, seeds):
    assert all(0.935 <= share <= 0.965 for share in simulated.coverage(arms, seeds).values())
    assert simulated.false_families(arms, seeds) <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "seeds"), simulated.SIZES)
def test_an_effect_of_the_declared_size_is_found(arms, seeds):
    assert 0.77 <= simulated.found(arms, seeds) <= 0.85


def figures() -> list[dict]:
    """The rows of simulated_studies.json, for each number of arms and seeds."""
    return json.loads(SCRIPT.with_suffix(".json").read_text())["rows"]


def test_the_table_of_docs_trust_md_is_that_of_the_file():
    rows = []
    for row in figures():
        false, found = row["families with a false finding"], row["found at that size"]
        means, differences = (row["intervals that hold the truth"][of] for of in ("mean", "difference"))
        rows.append(
            f"| {row['arms']} | {row['seeds']} | {100 * false:.1f} % | {row['minimum detectable, in sd']:.1f} sd | {100 * found:.0f} % "
            f"| {100 * means:.1f} % | {100 * differences:.1f} % |"
        )
    text = (ROOT / "docs" / "trust.md").read_text()
    assert re.findall(r"^\| \d.*$", text, re.M) == rows
    (three,) = [row for row in figures() if (row["arms"], row["seeds"]) == (2, 3)]
    assert (
        "With three seeds, only differences three times as large" in text
        and round(three["minimum detectable, in sd"]) == 3
    )


def test_the_ranges_of_docs_report_md_are_those_of_the_file():
    false = [100 * row["families with a false finding"] for row in figures()]
    held = [100 * share for row in figures() for share in row["intervals that hold the truth"].values()]
    text = " ".join((ROOT / "docs" / "report.md").read_text().split())
    assert f"a false one is declared in {min(false):.3g} to {max(false):.3g} % of families" in text
    assert f"hold the truth in {min(held):.1f} to {max(held):.1f} %" in text
