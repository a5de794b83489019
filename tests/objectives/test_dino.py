import numpy as np
import pytest
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.objectives import DINO

SETTINGS = {
    "out_dim": 12,
    "hidden_dim": 16,
    "bottleneck_dim": 8,
    "head_layers": 3,
    "head_batch_norm": False,
    "norm_last_layer": True,
    "student_temperature": 0.1,
    "teacher_temperature": 0.07,
    "warmup_teacher_temperature": 0.04,
    "warmup_teacher_fraction": 0.5,
    "centring": "centre",
    "centre_momentum": 0.9,
    "sinkhorn_iterations": 3,
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


def terms_of(objective, views, progress, micro_batch=5):
    """The terms of one pass over all patches."""
    return objective.losses(views, objective.targets(views, {"progress": progress}, micro_batch))


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
    objective.centring.centre.copy_(torch.linspace(-1, 1, 12))
    progress = 0.25
    temperature = 0.04 + (0.07 - 0.04) * progress / 0.5
    teacher = [
        _softmax((_scores(objective.teacher, v) - objective.centring.centre.numpy()) / temperature)
        for v in views["global"]
    ]
    student = [np.log(_softmax(_scores(objective.student, v) / 0.1)) for v in [*views["global"], *views["local"]]]
    pairs = [-(t * s).sum(-1).mean() for g, t in enumerate(teacher) for v, s in enumerate(student) if v != g]
    assert len(pairs) == 2 * 5
    terms = terms_of(objective, views, progress)
    assert terms["loss"].item() == pytest.approx(np.mean(pairs), abs=1e-5)
    entropy = np.mean([-(t * np.log(t)).sum(-1).mean() for t in teacher])
    assert terms["teacher_entropy"].item() == pytest.approx(entropy, abs=1e-5)


def test_the_centre_moves_by_its_momentum_after_the_step_only(objective, views):
    before = objective.centring.centre.clone()
    terms_of(objective, views, 1.0)
    assert torch.equal(objective.centring.centre, before)
    objective.after_step({"teacher_momentum": 1.0})
    mean = np.mean([_scores(objective.teacher, v).mean(0) for v in views["global"]], axis=0)
    assert objective.centring.centre.numpy() == pytest.approx(0.1 * mean, abs=1e-6)


def test_the_teacher_is_the_moving_average_and_gets_no_gradient(objective, views):
    terms_of(objective, views, 0.0)["loss"].backward()
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
    assert len(free.student.last_layers()) == 2
    assert len(DINO(Encoder(), **SETTINGS).student.last_layers()) == 1


def test_views_without_local_crops_compare_the_two_global_ones(objective, views):
    terms = terms_of(objective, {"global": views["global"], "local": views["local"][:0]}, 1.0)
    assert torch.isfinite(terms["loss"])


def test_targets_do_not_depend_on_how_many_patches_pass_at_a_time_nor_on_whose_rows_are_asked_for(objective, views):
    whole, parts = (objective.targets(views, {"progress": 0.5}, size) for size in (5, 1))
    whole_GBK, parts_GBK = (targets.views_GBK.probabilities() for targets in (whole, parts))
    assert torch.allclose(whole_GBK, parts_GBK, atol=1e-6)
    assert torch.equal(whole.of(slice(1, 3)).views_GBK.probabilities(), whole_GBK[:, 1:3])


def test_batch_norm_in_the_head_normalises_hidden_layers_alone():
    head = DINO(Encoder(), **(SETTINGS | {"head_batch_norm": True})).student.head
    kinds = [type(module).__name__ for module in head.mlp]
    assert kinds == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]
    assert not list(head.buffers())  # no running statistics, which an average of weights would not move


def test_unknown_centring_is_refused():
    with pytest.raises(UserError, match=r"objective\.centring=whitening"):
        DINO(Encoder(), **(SETTINGS | {"centring": "whitening"}))
