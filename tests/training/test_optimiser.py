from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.models.encoder import create_encoder
from pathssl.models.network import Network
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
    model = nn.Sequential(OrderedDict(encoder=nn.Linear(4, 4), head=nn.LayerNorm(4)))
    optimiser = create_optimiser(torch.optim.AdamW, model, layer_decay=1.0, patch_embed_lr=1.0)
    set_rates(optimiser, lr=0.1, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    after = dict(model.named_parameters())
    assert torch.allclose(after["encoder.weight"], before["encoder.weight"] * (1 - 0.1 * 0.5))
    for name in ("encoder.bias", "head.weight", "head.bias"):
        assert torch.equal(after[name], before[name])


def test_each_gradient_is_cut_to_the_norm_and_the_whole_norm_is_returned():
    a, b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    a.grad, b.grad = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.3, 0.4])
    assert clip_gradients([a, b], 1.0, "parameter").item() == pytest.approx(np.sqrt(25.25))
    assert a.grad.norm().item() == pytest.approx(1.0, abs=1e-4)
    assert b.grad.norm().item() == pytest.approx(0.5)


def test_the_whole_gradient_is_cut_to_the_norm_by_the_global_rule():
    a, b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    a.grad, b.grad = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.3, 0.4])
    assert clip_gradients([a, b], 1.0, "global").item() == pytest.approx(np.sqrt(25.25))
    assert torch.cat((a.grad, b.grad)).norm().item() == pytest.approx(1.0, abs=1e-4)
    assert (a.grad[0] / b.grad[0]).item() == pytest.approx(10.0)
    with pytest.raises(UserError, match=r"optim\.clip_rule=each"):
        clip_gradients([a, b], 1.0, "each")


def test_learning_rates_decay_from_the_head_down_to_the_patch_embedding():
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "reg_tokens": 2}
    student = Network(create_encoder("vit_tiny_patch16_224", args, 0.0), nn.Linear(32, 8), None, masked=True)
    optimiser = create_optimiser(torch.optim.AdamW, student, layer_decay=0.5, patch_embed_lr=0.2)
    set_rates(optimiser, lr=1.0, weight_decay=0.0)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    of = {name: rates[id(p)] for name, p in student.named_parameters()}
    assert of["head.weight"] == of["encoder.norm.weight"] == 1.0
    assert [of[f"encoder.blocks.{i}.attn.qkv.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    for name in ("encoder.cls_token", "encoder.reg_token", "encoder.pos_embed", "mask_token"):
        assert of[name] == 0.0625
    assert of["encoder.patch_embed.proj.weight"] == pytest.approx(0.0125)
