"""benchmarks/unequal_variances.py: what docs/trust.md says of arms that scatter more is what was measured."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "unequal_variances.py"
_SPEC = importlib.util.spec_from_file_location("unequal_variances", SCRIPT)
simulated = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(simulated)
FILE = json.loads(SCRIPT.with_suffix(".json").read_text())
TEXT = " ".join((ROOT / "docs" / "trust.md").read_text().split())


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "wide"), [(5, "alike"), (5, "baseline")])
def test_the_figures_are_those_of_this_code(arms, wide):
    (row,) = [row for row in FILE["rows"] if (row["arms"], row["wide"]) == (arms, wide)]
    again = simulated.row(arms, simulated.WIDE_ARMS[wide])
    assert again["named"] == pytest.approx(row["named"], abs=0.002)
    for of in ("families with a false finding", "intervals that hold the truth"):
        assert again[of] == pytest.approx(row[of], abs=0.002)


def test_the_report_of_arms_that_are_alike_names_one_in_five_of_a_hundred():
    assert all(0.035 <= row["named"] <= 0.065 for row in FILE["rows"] if row["wide"] == "alike")


def test_the_table_of_docs_trust_md_is_that_of_the_file():
    who = {"alike": "none", "baseline": "the baseline", "other arm": "another"}
    rows = []
    for row in FILE["rows"]:
        own, others = (row["intervals that hold the truth"][of] for of in ("wide arm", "others"))
        false = " | ".join(f"{100 * share:.1f} %" for share in row["families with a false finding"].values())
        own = "—" if own is None else f"{100 * own:.0f} %"
        rows.append(
            f"| {who[row['wide']]} | {row['arms']} | {100 * row['named']:.0f} % | {false} | {own} | {100 * others:.0f} % |"
        )
    lines = (ROOT / "docs" / "trust.md").read_text().splitlines()
    assert [line for line in lines if re.match(r"\| (none|the baseline|another) ", line)] == rows
    assert f"{FILE['studies']:,} studies each with three seeds, four metrics" in TEXT
    assert (FILE["seeds"], FILE["metrics"], FILE["times as wide"]) == (3, 4, 5)


def listed(shares) -> str:
    first, *rest = [f"{100 * share:.0f}" for share in shares]
    return f"{', '.join([first, *rest[:-1]])} and {rest[-1]} %"


def test_the_sentences_of_docs_trust_md_are_those_of_the_file():
    found = FILE["found where alike"]
    welch, pooled = ([found[arms][test] for arms in ("2", "5", "9")] for test in ("Welch", "pooled"))
    assert f"{listed(welch).replace(' %', '')} % (2, 5, 9 arms) of what pooling finds in {listed(pooled)}" in TEXT
    tests = FILE["tests of equal variances"]["9"]
    names = ("Cochran", "Bartlett", "Levene", "Brown-Forsythe")
    cochran, bartlett, levene, brown = (f"{100 * tests[name]['alike']:.0f} %" for name in names)
    assert (
        f"names one in {cochran} of studies; Bartlett's test finds something in {bartlett}, Levene's in {levene}"
        in TEXT
    )
    assert (
        f"Brown-Forsythe's in {brown}; with one wide arm, in {listed(tests[name]['one arm wide'] for name in names)}."
        in TEXT
    )
    half = [f"{100 * tests[name]['half of the arms wide']:.0f}" for name in names[:2]]
    assert f"({half[0]} against {half[1]} %)" in TEXT
    assert f"makes it name one in {100 * tests['Cochran']['heavy tails']:.0f} %." in TEXT
