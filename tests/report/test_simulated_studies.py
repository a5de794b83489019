"""benchmarks/simulated_studies.py: verdicts and intervals over 2,000 studies whose truth is known."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "simulated_studies.py"
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
