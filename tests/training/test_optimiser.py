import numpy as np
import pytest
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.training.optimiser import clip_gradients, create_optimiser, learning_rate, set_rates, teacher_momentum


def test_learning_rate_and_momentum_follow_their_rules():
    assert learning_rate(5e-4, 512, 256, "linear") == pytest.approx(1e-3)
    assert learning_rate(5e-4, 1024, 256, "sqrt") == pytest.approx(1e-3)
    assert learning_rate(5e-4, 1024, 256, "none") == 5e-4
    assert teacher_momentum(0.996, 512, 256, "power") == pytest.approx(0.996**2)
    assert teacher_momentum(0.996, 512, 256, "none") == 0.996
    with pytest.raises(UserError, match=r"batch\.lr_rule=cubic"):
        learning_rate(1, 1, 1, "cubic")


def test_biases_and_norms_are_not_decayed():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    optimiser = create_optimiser(model, (0.9, 0.999))
    set_rates(optimiser, lr=0.1, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    after = dict(model.named_parameters())
    assert torch.allclose(after["0.weight"], before["0.weight"] * (1 - 0.1 * 0.5))
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[name], before[name])


def test_each_gradient_is_cut_to_the_norm_and_the_whole_norm_is_returned():
    a, b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    a.grad, b.grad = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.3, 0.4])
    assert clip_gradients([a, b], 1.0).item() == pytest.approx(np.sqrt(25.25))
    assert a.grad.norm().item() == pytest.approx(1.0, abs=1e-4)
    assert b.grad.norm().item() == pytest.approx(0.5)
