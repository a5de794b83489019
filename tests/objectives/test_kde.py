import math

import pytest
import torch

from pathssl.objectives.kde import kde


def _features(rows=12, dims=5, dtype=torch.float32):
    return 3 * torch.randn(rows, dims, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _by_hand(features, group, concentration):
    x = [row / math.sqrt(sum(v * v for v in row)) for row in features.double().numpy()]
    logs = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i and j // group == i // group]
        kernels = [math.exp(concentration * sum(a * b for a, b in zip(x[i], x[j], strict=True))) for j in others]
        logs.append(math.log(sum(kernels) / (group - 1)))
    return sum(logs) / len(logs)


@pytest.mark.parametrize("group", [2, 4, 12])
def test_it_equals_loops_over_the_others_of_a_group(group):
    features = _features()
    assert kde(features, group, 5.0).item() == pytest.approx(_by_hand(features, group, 5.0), rel=1e-6, abs=1e-5)


def test_gradients_equal_finite_differences_in_float64():
    assert torch.autograd.gradcheck(lambda x: kde(x, 4, 5.0), _features(8, dtype=torch.float64).requires_grad_())


def test_a_collapsed_batch_scores_worst_and_a_spread_one_best():
    spread = _features(16, 32)
    direction = torch.ones(32)
    scores = [kde(direction + width * spread, 16, 5.0).item() for width in (0, 1e-1, 1, 100)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(5.0, abs=1e-5)
    assert scores[0] - scores[-1] > 1


def test_a_step_down_the_gradient_lowers_the_mean_cosine():
    features = _features(8, 32) + 10
    features.requires_grad_()
    kde(features, 8, 5.0).backward()

    def mean_cosine(x):
        x = torch.nn.functional.normalize(x, dim=-1)
        return (x @ x.T).mean()

    assert mean_cosine(features - features.grad) < mean_cosine(features)


@pytest.mark.parametrize("concentration", [5.0, 1e4])
def test_a_collapsed_batch_has_a_finite_loss_and_gradient(concentration):
    features = torch.ones(8, 5, requires_grad=True)
    loss = kde(features, 8, concentration)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(features.grad).all()


def test_it_is_computed_in_fp32_under_autocast_too():
    features = _features(16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = kde(features, 16, 5.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(_by_hand(features.float(), 16, 5.0), abs=1e-5)
