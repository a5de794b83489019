"""One step: what it moves, and what it leaves."""

import numpy as np
import pytest
import steps
import torch

from pathssl.training.step import NotFinite


def gradients(accumulate: int, *, drop_path: float = 0.0) -> dict[str, torch.Tensor]:
    step = steps.taken(steps.build("dinov2_koleo", drop_path=drop_path), "ddp", accumulate)
    pixels, seeds = steps.patches(0)
    step.gradient(steps.RECIPE.values(0), 0, torch.from_numpy(pixels), seeds)
    return {name: parameter.grad for name, parameter in step.objective.student.named_parameters()}


def test_passes_of_a_part_of_the_batch_make_the_gradient_of_the_batch():
    whole, parts = gradients(1), gradients(4)
    for name, gradient in whole.items():
        assert torch.allclose(gradient, parts[name], atol=1e-5), name


def test_stochastic_depth_follows_from_the_patches_whatever_was_drawn_before():
    one = gradients(2, drop_path=0.5)
    torch.rand(7)
    other = gradients(2, drop_path=0.5)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.allclose(one[name], gradient, atol=1e-4) for name, gradient in gradients(2).items())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_no_number_stops_before_anything_moves(accumulate):
    step = steps.taken(steps.build("dino"), "ddp", accumulate)
    pixels, seeds = steps.patches(0)
    views = step.views

    def broken(patches: torch.Tensor, seeds_B: np.ndarray) -> dict[str, torch.Tensor]:
        made = views(patches, seeds_B)
        made["global"][0, -1] = float("nan")  # of the last patch alone
        return made

    step.views = broken
    before = {name: tensor.clone() for name, tensor in step.objective.state_dict().items()}
    with pytest.raises(NotFinite) as failure:
        step.take(0, 0, torch.from_numpy(pixels), seeds)
    assert failure.value.rows == (slice(0, 16) if accumulate == 1 else slice(8, 16))
    assert not np.isfinite(failure.value.terms["loss"])
    for name, tensor in step.objective.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not step.optimiser.state and all(p.grad is None for p in step.parameters)


def test_the_last_layers_stand_still_at_first():
    step = steps.taken(steps.build("dinov2_kde"), "ddp", accumulate=1)
    heads = [step.objective.student.head, step.objective.student.patch_head]
    before = [head.prototypes.clone() for head in heads]
    frozen = [number for number in range(steps.STEPS) if number / steps.STEPS < steps.RECIPE.freeze_last_layer]
    steps.run(step, 0, len(frozen))
    assert all(torch.equal(head.prototypes, then) for head, then in zip(heads, before, strict=True))
    steps.run(step, len(frozen), len(frozen) + 1)
    assert not any(torch.equal(head.prototypes, then) for head, then in zip(heads, before, strict=True))
