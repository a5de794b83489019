import numpy as np
from scipy import stats

from pathssl.seeding import integer_seed, philox, uniforms


def test_philox_gives_the_published_known_answers():
    # Random123's kat_vectors, philox4x32 with 10 rounds.
    ones = 0xFFFFFFFF
    zeros_answer = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones_answer = [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert philox(np.zeros(4), (0, 0)).tolist() == zeros_answer
    assert philox(np.array([ones] * 4, np.uint64), (ones, ones)).tolist() == ones_answer


def test_a_value_depends_on_its_own_index_alone():
    together = uniforms(3, "patch", np.arange(1000), 5)
    assert np.array_equal(together[417], uniforms(3, "patch", np.array([417]), 5)[0])
    assert np.array_equal(together[::-1], uniforms(3, "patch", np.arange(1000)[::-1], 5))


def test_seed_purpose_index_and_attempt_each_change_the_stream():
    base = uniforms(0, "a", np.array([0]), 4)
    others = [uniforms(1, "a", [0], 4), uniforms(0, "b", [0], 4), uniforms(0, "a", [1], 4), uniforms(0, "a", [0], 4, 1)]
    others.append(uniforms(0, "a", [2**40], 4))
    assert all(not np.any(base == other) for other in others)


def test_values_are_uniform_and_uncorrelated():
    u = uniforms(0, "a", np.arange(20000), 4)
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03
    assert u.min() >= 0 and u.max() < 1


def test_integer_seeds_differ_by_index():
    assert len({integer_seed(0, "step", i) for i in range(1000)}) == 1000
