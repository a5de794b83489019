import pytest

from pathssl.schedules import cosine, linear, warmup_cosine


def test_cosine_has_its_ends_and_its_middle():
    assert [cosine(1.0, 3.0, p) for p in (0, 0.5, 1)] == pytest.approx([1, 2, 3])


def test_warmup_rises_linearly_then_falls_to_the_end():
    values = [warmup_cosine(1.0, 0.1, 0.2, p) for p in (0, 0.1, 0.2, 0.6, 1)]
    assert values == pytest.approx([0, 0.5, 1, 0.55, 0.1])
    assert warmup_cosine(1.0, 0.1, 0.0, 0) == pytest.approx(1)


def test_linear_stops_at_its_fraction():
    assert [linear(0.04, 0.07, 0.3, p) for p in (0, 0.15, 0.3, 1)] == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert linear(0.04, 0.07, 0, 0) == 0.07
