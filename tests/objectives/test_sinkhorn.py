import math

import numpy as np
import pytest
import torch

from pathssl.objectives.sinkhorn import sinkhorn


def _scores(rows=9, prototypes=5, dtype=torch.float32):
    return torch.rand(rows, prototypes, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def targets_of(scores, temperature, iterations):
    return sinkhorn(scores, temperature, iterations).probabilities()


def _by_hand(scores, temperature, iterations):
    """SwAV's loop as published, with its factors 1/K and 1/B, in float64."""
    rows, prototypes = scores.shape
    q = [[math.exp(float(s) / temperature) for s in row] for row in scores.double()]
    total = sum(map(sum, q))
    q = [[v / total for v in row] for row in q]
    for _ in range(iterations):
        for k in range(prototypes):
            column = sum(q[r][k] for r in range(rows))
            for r in range(rows):
                q[r][k] /= column * prototypes
        for r in range(rows):
            row = sum(q[r])
            q[r] = [v / (row * rows) for v in q[r]]
    return np.array(q) * rows


@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
@pytest.mark.parametrize("temperature", [0.04, 0.07, 1.0])
def test_it_equals_the_published_loop_in_float64(iterations, temperature):
    targets = targets_of(_scores(), temperature, iterations)
    assert targets.dtype == torch.float32
    assert np.allclose(targets.numpy(), _by_hand(_scores(), temperature, iterations), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rows", "prototypes"), [(9, 5), (5, 40), (1, 3)])
def test_rows_sum_to_one_and_columns_at_convergence_to_rows_over_prototypes(rows, prototypes):
    scores = _scores(rows, prototypes)
    assert np.allclose(targets_of(scores, 0.1, 1).sum(1), 1, atol=1e-6)
    converged = targets_of(scores, 0.2, 300)
    assert np.allclose(converged.sum(1), 1, atol=1e-6)
    assert np.allclose(converged.sum(0), rows / prototypes, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 3])
def test_temperatures_down_to_a_hundredth_neither_overflow_nor_starve_a_row_or_column(iterations):
    scores = _scores(40, 30)
    scores[:10] = -1  # ten rows at the lowest score for all prototypes,
    scores[:, :10] = -1  # ten prototypes at the lowest for all rows,
    scores[20:] = 1
    scores[20:, 0] = -1  # and the highest elsewhere: exp(200) apart
    targets = targets_of(scores, 0.01, iterations)
    assert torch.isfinite(targets).all() and np.allclose(targets.sum(1), 1, atol=1e-5)
    assert np.allclose(targets.numpy(), _by_hand(scores, 0.01, iterations), atol=1e-5, rtol=0)


def test_scores_far_beyond_the_range_of_fp32s_exp_stay_finite():
    targets = targets_of(1e4 * _scores(20, 30), 0.01, 3)
    assert torch.isfinite(targets).all() and np.allclose(targets.sum(1), 1, atol=1e-5)


def test_scores_are_left_as_they_were_and_targets_have_no_gradient():
    scores = _scores().requires_grad_()
    before = scores.detach().clone()
    assert not targets_of(scores, 0.1, 3).requires_grad
    assert torch.equal(scores, before)


def test_half_precision_scores_are_handled_in_fp32_and_float64_in_float64():
    scores = _scores().bfloat16()
    assert torch.equal(targets_of(scores, 0.1, 3), targets_of(scores.float(), 0.1, 3))
    assert targets_of(_scores(dtype=torch.float64), 0.1, 3).dtype == torch.float64


def test_no_rows_give_no_targets():
    assert targets_of(torch.zeros(0, 4), 0.1, 3).shape == (0, 4)
