import math

import numpy as np
import pytest
import torch

from pathssl.errors import UserError
from pathssl.objectives.koleo import koleo


def _features(rows=12, dims=5, dtype=torch.float32):
    return 3 * torch.randn(rows, dims, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _by_hand(features, group):
    x = [row / math.sqrt(sum(v * v for v in row)) for row in features.double().numpy()]
    logs = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i and j // group == i // group]
        nearest = min(math.sqrt(sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True))) for j in others)
        logs.append(math.log(nearest + 1e-8))
    return -sum(logs) / len(logs)


@pytest.mark.parametrize("group", [2, 4, 12])
def test_it_equals_loops_over_neighbours_within_groups(group):
    features = _features()
    assert koleo(features, group).item() == pytest.approx(_by_hand(features, group), rel=1e-6, abs=1e-5)


def test_close_neighbours_keep_their_digits_in_fp32():
    features = _features(4)
    features[1] = features[0] + 1e-3 * features[2]
    assert koleo(features, 4).item() == pytest.approx(_by_hand(features, 4), abs=1e-4)


def test_gradients_equal_finite_differences_in_float64():
    assert torch.autograd.gradcheck(lambda x: koleo(x, 4), _features(8, dtype=torch.float64).requires_grad_())


def test_a_collapsed_batch_scores_worse_than_a_spread_one():
    spread = _features(16, 32)
    direction = torch.ones(32)
    scores = [koleo(direction + width * spread, 16).item() for width in (0, 1e-3, 1e-1, 1, 100)]
    assert scores == sorted(scores, reverse=True)


def test_rows_that_are_the_same_have_a_finite_loss_and_gradient():
    features = _features(8)
    features[:6] = features[0]
    features.requires_grad_()
    loss = koleo(features, 8)
    loss.backward()
    assert loss.item() == pytest.approx(_by_hand(features.detach(), 8), abs=1e-5)
    assert torch.isfinite(features.grad).all() and features.grad[6:].all()


def test_a_step_down_the_gradient_pushes_neighbours_apart():
    features = _features(8).requires_grad_()
    before = koleo(features, 8)
    before.backward()
    assert koleo(features.detach() - 0.01 * features.grad, 8) < before


def test_it_is_computed_in_fp32_under_autocast_too():
    features = 1 + 0.01 * _features(16, 32)  # cosines that bf16 does not tell apart
    with torch.autocast("cpu", torch.bfloat16):
        assert koleo(features, 16).item() == pytest.approx(_by_hand(features, 16), abs=1e-4)
        assert koleo(features.bfloat16(), 16).dtype == torch.float32


@pytest.mark.parametrize("group", [1, 5])
def test_a_group_that_does_not_divide_the_batch_is_refused(group):
    with pytest.raises(UserError, match=f"groups of {group} patches among 12"):
        koleo(_features(12), group)


def test_groups_do_not_see_each_other():
    features = _features(8)
    halves = [koleo(half, 4).item() for half in features.split(4)]
    assert koleo(features, 4).item() == pytest.approx(np.mean(halves), abs=1e-6)
    assert koleo(features, 8).item() != pytest.approx(np.mean(halves), abs=1e-3)
