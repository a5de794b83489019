import pytest
import torch
from torch import nn

from pathssl.objectives.masked_patch import masked_patch_loss

MASKED = [3, 0, 1, 5]  # tokens of each image


def _inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    m = sum(MASKED)
    targets = torch.softmax(3 * torch.randn(m, 6, generator=generator, dtype=dtype), -1)
    scores = torch.randn(m, 6, generator=generator, dtype=dtype)
    weights = torch.cat([torch.full((n,), 1 / n, dtype=dtype) for n in MASKED if n])
    return targets, scores, weights


def test_it_is_the_mean_over_all_images_of_the_mean_over_their_masked_tokens():
    targets, scores, weights = _inputs()
    logs = torch.log_softmax(scores / 0.1, -1)
    t, s = targets.double().numpy(), logs.double().numpy()
    by_hand, m = 0.0, 0
    for masked in MASKED:
        of_image = []
        for _ in range(masked):
            of_image.append(-sum(t[m, k] * s[m, k] for k in range(6)))
            m += 1
        by_hand += sum(of_image) / len(of_image) if of_image else 0.0
    loss = masked_patch_loss(targets, logs, weights, len(MASKED))
    assert loss.item() == pytest.approx(by_hand / len(MASKED), rel=1e-6, abs=1e-5)


def test_gradients_equal_finite_differences_in_float64():
    targets, scores, weights = _inputs(torch.float64)
    assert torch.autograd.gradcheck(
        lambda s: masked_patch_loss(targets, torch.log_softmax(s / 0.1, -1), weights, 4), scores.requires_grad_()
    )


def test_no_masked_token_gives_zero_and_a_gradient_of_zeros():
    head = nn.Linear(5, 6)
    logs = torch.log_softmax(head(torch.zeros(0, 5)), -1)
    loss = masked_patch_loss(torch.zeros(0, 6), logs, torch.zeros(0), 8)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(head.weight.grad, torch.zeros(6, 5))


def test_half_precision_is_summed_in_fp32():
    targets, scores, weights = _inputs()
    logs = torch.log_softmax(scores, -1).bfloat16()
    loss = masked_patch_loss(targets.bfloat16(), logs, weights, 4)
    assert loss.dtype == torch.float32
    assert loss.item() == masked_patch_loss(targets.bfloat16().float(), logs.float(), weights, 4).item()
