"""Several processes train the model that one process trains."""

import os
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import pytest
import steps
import torch

from pathssl.training.parallel import MODES, as_written
from pathssl.training.state import gather, restore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """What two gloo processes come to, for every objective and mode."""
    folder = tmp_path_factory.mktemp("together")
    program = [str(Path(__file__).with_name("steps.py")), str(folder)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *program]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


def assert_close(one: dict, other: dict, tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max() <= tolerance, name


@pytest.mark.parametrize("kind", steps.KINDS)
def test_two_processes_equal_one_with_accumulation(kind, together):
    step = steps.taken(steps.build(kind), "ddp", accumulate=2)
    losses = steps.run(step)
    alone = gather(step.objective, step.optimiser)
    before = steps.build(kind).state_dict()
    moved = max((alone["objective"][name] - tensor).abs().max().item() for name, tensor in before.items())
    assert moved > 1e-2  # there is something to compare
    for mode in MODES:
        theirs = torch.load(together / f"{kind}_{mode}.pt", weights_only=True)
        assert theirs["losses"] == pytest.approx(losses, abs=1e-5)
        assert_close(theirs["objective"], alone["objective"], 1e-5)
        assert theirs["optimiser"].keys() == alone["optimiser"].keys()


@pytest.mark.parametrize("kind", steps.KINDS)
def test_in_bf16_a_model_in_parts_rounds_what_a_whole_one_rounds(kind, together):
    losses = steps.run(steps.taken(steps.build(kind), "ddp", accumulate=2, bf16=True), last=6)
    in_fp32 = steps.run(steps.taken(steps.build(kind), "ddp", accumulate=2), last=6)
    assert torch.load(together / f"{kind}_fsdp_bf16.pt", weights_only=True) == pytest.approx(losses, rel=2e-4, abs=1e-6)
    assert losses != pytest.approx(in_fp32, rel=2e-4, abs=1e-6)


@pytest.mark.parametrize("kind", ["dino", "dinov2_koleo"])
def test_a_state_goes_on_to_the_bit_and_changes_layouts(kind, together):
    unbroken = steps.taken(steps.build(kind, drop_path=0.2), "ddp", accumulate=1)
    steps.run(unbroken, 0, 3)
    state = gather(unbroken.objective, unbroken.optimiser)
    losses = steps.run(unbroken, 3, 6)
    resumed = steps.taken(steps.build(kind, drop_path=0.2), "ddp", accumulate=1)
    restore(resumed.objective, resumed.optimiser, state)
    assert steps.run(resumed, 3, 6) == losses
    assert_close(resumed.objective.state_dict(), unbroken.objective.state_dict(), 0.0)
    # What a sharded run saved, one process takes.
    theirs = torch.load(together / f"{kind}_fsdp.pt", weights_only=True)
    alone = steps.taken(steps.build(kind), "ddp", accumulate=1)
    restore(alone.objective, alone.optimiser, theirs)
    again = gather(alone.objective, alone.optimiser)
    assert_close(again["objective"], theirs["objective"], 0.0)
    for name, kept in theirs["optimiser"].items():
        assert_close(again["optimiser"][name], kept, 0.0)


@pytest.mark.parametrize("how", ["activation_checkpointing", "compile"])
def test_how_a_step_is_computed_does_not_change_what_is_learned(how):
    one, other = (steps.taken(steps.build("dinov2_koleo"), "ddp", accumulate=1, **{how: on}) for on in (False, True))
    assert steps.run(one, 0, 3) == pytest.approx(steps.run(other, 0, 3), abs=1e-5)
    assert_close(one.objective.state_dict(), other.objective.state_dict(), 1e-5)


def test_all_blocks_are_compiled_however_many_rates_of_stochastic_depth_there_are(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=2, accumulated_recompile_limit=2, fail_on_recompile_limit_hit=True):
        step = steps.taken(steps.build("dino", drop_path=0.3, depth=6), "ddp", accumulate=1, compile=True)
        steps.run(step, 0, 2)


def test_a_compiled_run_goes_on_to_the_bit_whatever_was_computed_in_between():
    def fresh():
        torch._dynamo.reset()
        return steps.taken(steps.build("dinov2_koleo", drop_path=0.2), "ddp", accumulate=1, compile=True)

    unbroken = fresh()
    with as_written(), torch.no_grad():  # a probe, on images and in numbers that no step sees
        unbroken.objective.teacher.encoder.eval()(torch.zeros(5, 3, 64, 64))
    steps.run(unbroken, 0, 2)
    state = gather(unbroken.objective, unbroken.optimiser)
    losses = steps.run(unbroken, 2, 4)
    resumed = fresh()
    restore(resumed.objective, resumed.optimiser, state)
    assert steps.run(resumed, 2, 4) == losses
    assert_close(resumed.objective.state_dict(), unbroken.objective.state_dict(), 0.0)


def test_the_teacher_never_gets_a_gradient():
    step = steps.taken(steps.build("dinov2_koleo"), "ddp", accumulate=2)
    pixels, seeds = steps.patches(0)
    step.gradient(steps.RECIPE.values(0), 0, torch.from_numpy(pixels), seeds)
    assert all(parameter.grad is None for parameter in step.objective.teacher.parameters())
    assert all(parameter.grad is not None for parameter in step.objective.student.parameters())
