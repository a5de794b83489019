import numpy as np
import pytest
import torch
from torch import nn

from pathssl.objectives import DINO
from pathssl.objectives.dino import cross_view_loss

SETTINGS = {
    "out_dim": 12,
    "hidden_dim": 16,
    "bottleneck_dim": 8,
    "head_layers": 3,
    "norm_last_layer": True,
    "student_temperature": 0.1,
    "teacher_temperature": 0.07,
    "warmup_teacher_temperature": 0.04,
    "warmup_teacher_fraction": 0.5,
    "centre_momentum": 0.9,
}


class Encoder(nn.Module):
    num_features = 6

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 6)

    def forward(self, images):
        return self.linear(images.mean(dim=(2, 3)))


@pytest.fixture
def objective():
    torch.manual_seed(0)
    return DINO(Encoder(), **SETTINGS)


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(1)
    return {
        "global": torch.randn(2, 5, 3, 8, 8, generator=generator),
        "local": torch.randn(4, 5, 3, 4, 4, generator=generator),
    }


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _scores(network, images):
    """(B, K): encoder, MLP with exact GELU, L2 norm, unit prototypes; in float64 numpy."""
    from scipy.special import erf

    w = {name: p.detach().double().numpy() for name, p in network.named_parameters()}
    x = images.double().numpy().mean((2, 3)) @ w["encoder.linear.weight"].T + w["encoder.linear.bias"]
    for i in (0, 2, 4):
        x = x @ w[f"head.mlp.{i}.weight"].T + w[f"head.mlp.{i}.bias"]
        if i < 4:
            x = 0.5 * x * (1 + erf(x / np.sqrt(2)))
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    prototypes = w["head.prototypes"]
    return x @ (prototypes / np.linalg.norm(prototypes, axis=-1, keepdims=True)).T


def test_the_loss_equals_the_papers_sum_over_pairs_in_numpy(objective, views):
    objective.centre.copy_(torch.linspace(-1, 1, 12))
    progress = 0.25
    temperature = 0.04 + (0.07 - 0.04) * progress / 0.5
    teacher = [
        _softmax((_scores(objective.teacher, v) - objective.centre.numpy()) / temperature) for v in views["global"]
    ]
    student = [np.log(_softmax(_scores(objective.student, v) / 0.1)) for v in [*views["global"], *views["local"]]]
    pairs = [-(t * s).sum(-1).mean() for g, t in enumerate(teacher) for v, s in enumerate(student) if v != g]
    assert len(pairs) == 2 * 5
    terms = objective(views, {"progress": progress})
    assert terms["loss"].item() == pytest.approx(np.mean(pairs), abs=1e-5)
    entropy = np.mean([-(t * np.log(t)).sum(-1).mean() for t in teacher])
    assert terms["teacher_entropy"].item() == pytest.approx(entropy, abs=1e-5)


def test_the_gradient_equals_finite_differences_in_float64():
    torch.manual_seed(2)
    targets = torch.softmax(torch.randn(2, 3, 7, dtype=torch.float64), -1)
    scores = torch.randn(5, 3, 7, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda s: cross_view_loss(targets, torch.log_softmax(s / 0.1, -1)), scores)


def test_the_centre_moves_by_its_momentum_after_the_step_only(objective, views):
    before = objective.centre.clone()
    objective(views, {"progress": 1.0})
    assert torch.equal(objective.centre, before)
    objective.after_step({"teacher_momentum": 1.0})
    mean = np.mean([_scores(objective.teacher, v).mean(0) for v in views["global"]], axis=0)
    assert objective.centre.numpy() == pytest.approx(0.1 * mean, abs=1e-6)


def test_the_teacher_is_the_moving_average_and_gets_no_gradient(objective, views):
    objective(views, {"progress": 0.0})["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    assert all(p.grad is not None for p in objective.student.parameters())
    old = [p.clone() for p in objective.teacher.parameters()]
    with torch.no_grad():
        for p in objective.student.parameters():
            p.add_(1.0)
    objective.after_step({"teacher_momentum": 0.75})
    for before, teacher, student in zip(
        old, objective.teacher.parameters(), objective.student.parameters(), strict=True
    ):
        assert torch.allclose(teacher, 0.75 * before + 0.25 * student, atol=1e-6)


def test_teacher_starts_as_the_student_and_stays_in_eval_mode(objective):
    for teacher, student in zip(objective.teacher.parameters(), objective.student.parameters(), strict=True):
        assert torch.equal(teacher, student)
    objective.train()
    assert objective.student.training and not objective.teacher.training


def test_a_free_last_layer_learns_lengths_and_a_normed_one_has_none():
    free = DINO(Encoder(), **(SETTINGS | {"norm_last_layer": False}))
    assert len(free.last_layer()) == 2
    assert len(DINO(Encoder(), **SETTINGS).last_layer()) == 1


def test_views_without_local_crops_compare_the_two_global_ones(objective, views):
    terms = objective({"global": views["global"], "local": views["local"][:0]}, {"progress": 1.0})
    assert torch.isfinite(terms["loss"])
