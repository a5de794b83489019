"""benchmarks/segmentation_margin.py: an interval that knows a margin from none, with images of a case drawn together."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pathssl.metrics import dice, miou

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "segmentation_margin.py"
CASES = np.repeat([f"case{k}" for k in range(10)], 2)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("segmentation_margin", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def matrices(share_found: np.ndarray) -> np.ndarray:
    """(N, 1, 2, 2): of 100 pixels of each class, so many of class 1 are found."""
    found = np.round(100 * share_found).astype(int)
    return np.stack([[[[100, 0], [100 - one, one]]] for one in found])


def test_a_margin_beyond_the_spread_of_cases_excludes_zero_and_none_does_not(script):
    rng = np.random.default_rng(0)
    of_case = np.repeat(rng.uniform(0.3, 0.7, 10), 2)
    first, last = matrices(of_case), matrices(of_case + 0.1 + rng.normal(0, 0.03, 20))
    for metric in (dice, miou):
        found = script.margin(metric, first, last, CASES, 0, 300)
        assert 0 < found["low"] < found["margin"] < found["high"]
        assert found["trained"] - found["random"] == pytest.approx(found["margin"])
    same = script.margin(dice, first, matrices(of_case + rng.normal(0, 0.05, 20)), CASES, 0, 300)
    assert same["low"] < 0 < same["high"]


def test_images_of_a_case_are_drawn_together(script):
    rng = np.random.default_rng(1)
    gain = np.repeat(rng.normal(0, 0.1, 10), 2)  # of the case, the same for both its images
    first, last = matrices(np.full(20, 0.5)), matrices(0.5 + gain)
    by_case = script.margin(dice, first, last, CASES, 0, 300)
    by_image = script.margin(dice, first, last, np.arange(20), 0, 300)
    assert by_case["high"] - by_case["low"] > 1.2 * (by_image["high"] - by_image["low"])
