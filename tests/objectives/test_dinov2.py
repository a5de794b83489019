"""DINOv2's loss as a whole, against the same sums written down in numpy from the tokens of the networks."""

import numpy as np
import pytest
import torch
from einops import rearrange
from scipy.special import erf, log_softmax

from pathssl.errors import UserError
from pathssl.models.encoder import create_encoder
from pathssl.objectives import DINOv2
from pathssl.objectives.dino import rows_of

ARGS = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 2}
SETTINGS = {
    "out_dim": 12,
    "hidden_dim": 16,
    "bottleneck_dim": 8,
    "head_layers": 3,
    "head_batch_norm": False,
    "norm_last_layer": False,
    "student_temperature": 0.1,
    "teacher_temperature": 0.07,
    "warmup_teacher_temperature": 0.04,
    "warmup_teacher_fraction": 0.5,
    "centring": "sinkhorn",
    "centre_momentum": 0.9,
    "sinkhorn_iterations": 3,
    "patch_weight": 0.7,
    "mask_probability": 0.6,
    "mask_ratio": [0.2, 0.5],
}
SPREAD = {"kind": "koleo", "weight": 0.1, "group": 3, "concentration": 5.0}
GLOBAL, LOCAL, BATCH, TEMPERATURE = 2, 3, 6, 0.055


def build(*, separate: bool, **more) -> DINOv2:
    torch.manual_seed(0)
    patch_head = {"separate": separate, "out_dim": 10, "bottleneck_dim": 6}
    settings = SETTINGS | {"patch_head": patch_head, "spread": SPREAD} | more
    objective = DINOv2(create_encoder("vit_tiny_patch16_224", ARGS, 0.0), **settings)
    with torch.no_grad():
        objective.student.mask_token.normal_()
        for parameter in objective.student.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # so that the teacher is another
    return objective


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(1)
    return {
        "global": torch.randn(GLOBAL, BATCH, 3, 32, 32, generator=generator),
        "local": torch.randn(LOCAL, BATCH, 3, 16, 16, generator=generator),
        "seeds": np.arange(100, 100 + BATCH, dtype=np.uint64),
    }


def tokens(encoder, images, masks=None, mask_token=None) -> np.ndarray:
    """timm's forward pass in its parts, with masked patches replaced before positions are added."""
    with torch.no_grad():
        x = encoder.patch_embed(images)
        if masks is not None:
            for image, row, column in zip(*np.nonzero(masks), strict=True):
                x[image, row, column] = mask_token
        x = encoder.norm_pre(encoder._pos_embed(x))
        for block in encoder.blocks:
            x = block(x)
        return encoder.norm(x).double().numpy()


def head(module, x: np.ndarray) -> np.ndarray:
    w = {name: p.detach().double().numpy() for name, p in module.named_parameters()}
    for i in (0, 2, 4):
        x = x @ w[f"mlp.{i}.weight"].T + w[f"mlp.{i}.bias"]
        x = 0.5 * x * (1 + erf(x / np.sqrt(2))) if i < 4 else x
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    prototypes = w["prototypes"] / np.linalg.norm(w["prototypes"], axis=-1, keepdims=True) * w["lengths"]
    return x @ prototypes.T


def sinkhorn(scores: np.ndarray) -> np.ndarray:
    q = np.exp((scores - scores.max()) / TEMPERATURE)
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(axis=0, keepdims=True) * scores.shape[1]
        q /= q.sum(axis=1, keepdims=True) * scores.shape[0]
    return q * scores.shape[0]


@pytest.mark.parametrize("separate", [True, False], ids=["two heads", "one head"])
def test_the_loss_equals_its_sums_in_numpy(separate, views):
    objective = build(separate=separate)
    student, teacher = objective.student, objective.teacher
    masks = rearrange(objective._masks(views), "b g h w -> g b h w")
    counts = masks.sum(axis=(2, 3))
    assert (counts == 0).any() and (counts > 0).any()

    taught = np.stack([tokens(teacher.encoder, images) for images in views["global"]])
    learned = np.stack(
        [
            tokens(student.encoder, images, m, student.mask_token)
            for images, m in zip(views["global"], masks, strict=True)
        ]
    )
    small = [tokens(student.encoder, images)[:, 0] for images in views["local"]]
    targets = sinkhorn(head(teacher.head, taught[:, :, 0]).reshape(GLOBAL * BATCH, -1)).reshape(GLOBAL, BATCH, -1)
    logs = [log_softmax(head(student.head, x) / 0.1, axis=-1) for x in [*learned[:, :, 0], *small]]
    pairs = [-(targets[g] * logs[v]).sum(-1).mean() for g in range(GLOBAL) for v in range(GLOBAL + LOCAL) if g != v]
    prefix = 1 + ARGS["reg_tokens"]
    places = [(g, b, n) for b in range(BATCH) for g in range(GLOBAL) for n in np.flatnonzero(masks[g, b])]
    patch_heads = (teacher.patch_head, student.patch_head) if separate else (teacher.head, student.head)
    wanted = sinkhorn(head(patch_heads[0], np.stack([taught[g, b, prefix + n] for g, b, n in places])))
    given = log_softmax(head(patch_heads[1], np.stack([learned[g, b, prefix + n] for g, b, n in places])) / 0.1, -1)
    patch_loss = sum(-(wanted[m] * given[m]).sum() / counts[g, b] for m, (g, b, _) in enumerate(places)) / (
        GLOBAL * BATCH
    )
    spread = 0.0
    for g in range(GLOBAL):
        unit = learned[g, :, 0] / np.linalg.norm(learned[g, :, 0], axis=-1, keepdims=True)
        for i in range(BATCH):
            neighbours = [j for j in range(BATCH) if j // 3 == i // 3 and j != i]
            spread -= np.log(min(np.linalg.norm(unit[i] - unit[j]) for j in neighbours)) / BATCH

    terms = objective.losses(views, objective.targets(views, {"progress": 0.25}, BATCH))
    assert terms["view_loss"].item() == pytest.approx(np.mean(pairs), abs=1e-5)
    assert terms["patch_loss"].item() == pytest.approx(patch_loss, abs=1e-5)
    assert terms["spread_loss"].item() == pytest.approx(spread, abs=1e-4)
    assert terms["loss"].item() == pytest.approx(np.mean(pairs) + 0.7 * patch_loss + 0.1 * spread, abs=1e-5)


def test_micro_batches_of_whole_groups_make_the_loss_of_the_batch(views):
    objective = build(separate=True)
    targets = objective.targets(views, {"progress": 0.25}, 3)
    whole = objective.losses(views, objective.targets(views, {"progress": 0.25}, BATCH))["loss"]
    parts = [objective.losses(rows_of(views, rows), targets.of(rows))["loss"] for rows in (slice(0, 3), slice(3, 6))]
    assert (sum(parts) / 2).item() == pytest.approx(whole.item(), abs=1e-5)


def test_the_student_learns_in_every_part_and_the_teacher_in_none(views):
    objective = build(separate=True)
    objective.losses(views, objective.targets(views, {"progress": 0.25}, BATCH))["loss"].backward()
    for name, parameter in objective.student.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())


def test_without_a_masked_patch_there_is_no_patch_loss_and_every_parameter_still_has_a_gradient(views):
    objective = build(separate=True, mask_probability=0.0)
    terms = objective.losses(views, objective.targets(views, {"progress": 0.25}, BATCH))
    assert terms["patch_loss"].item() == 0.0 and torch.isfinite(terms["loss"])
    terms["loss"].backward()
    assert all(parameter.grad is not None for parameter in objective.student.parameters())


def test_what_is_masked_does_not_reach_the_student(views):
    objective = build(separate=True)
    targets = objective.targets(views, {"progress": 0.25}, BATCH)
    masks = torch.from_numpy(rearrange(targets.masks_BGHW, "b g h w -> g b 1 h w").copy())
    hidden = masks.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)
    other = views | {"global": torch.where(hidden, torch.full_like(views["global"], 9.0), views["global"])}
    one, two = (objective.losses(seen, targets)["loss"].item() for seen in (views, other))
    assert one == two


@pytest.mark.parametrize("kind", ["kde", "none"])
def test_the_spread_term_can_be_another_or_none(kind, views):
    objective = build(separate=False, spread=SPREAD | {"kind": kind})
    terms = objective.losses(views, objective.targets(views, {"progress": 0.25}, BATCH))
    assert ("spread_loss" in terms) == (kind == "kde") and torch.isfinite(terms["loss"])


def test_an_unknown_spread_is_refused():
    with pytest.raises(UserError, match=r"spread\.kind=uniform is not one of koleo, kde, none"):
        build(separate=False, spread=SPREAD | {"kind": "uniform"})
