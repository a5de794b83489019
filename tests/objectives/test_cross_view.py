import numpy as np
import pytest
import torch

from pathssl.objectives.cross_view import cross_view_loss


def _inputs(n_global=2, n_views=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(n_views, 3, 7, generator=generator, dtype=dtype)
    targets = torch.softmax(4 * torch.randn(n_global, 3, 7, generator=generator, dtype=dtype), -1)
    return targets, scores


@pytest.mark.parametrize(("n_global", "n_views"), [(2, 5), (2, 2), (1, 4), (3, 3)])
def test_it_is_the_mean_cross_entropy_over_pairs_of_different_views(n_global, n_views):
    targets, scores = _inputs(n_global, n_views)
    logs = torch.log_softmax(scores / 0.1, -1)
    t, s = targets.double().numpy(), logs.double().numpy()
    terms = []
    for g in range(n_global):
        for v in range(n_views):
            for b in range(3):
                if v != g:
                    terms.append(-sum(t[g, b, k] * s[v, b, k] for k in range(7)))
    assert len(terms) == n_global * (n_views - 1) * 3
    assert cross_view_loss(targets, logs).item() == pytest.approx(np.mean(terms), rel=1e-6, abs=1e-5)


def test_gradients_equal_finite_differences_in_float64():
    targets, scores = _inputs(dtype=torch.float64)
    loss = cross_view_loss(targets, torch.log_softmax(scores / 0.1, -1))
    assert loss.dtype == torch.float64
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: cross_view_loss(targets, torch.log_softmax(s / 0.1, -1)), scores)


def test_half_precision_is_summed_in_fp32():
    targets, scores = _inputs()
    logs = torch.log_softmax(scores, -1).bfloat16()
    loss = cross_view_loss(targets.bfloat16(), logs)
    assert loss.dtype == torch.float32
    assert loss.item() == cross_view_loss(targets.bfloat16().float(), logs.float()).item()
