"""What a run does between its steps: it saves without standing still, in time, and nothing that is broken."""

import threading
from pathlib import Path

import pytest
import torch

from pathssl.cli import compose
from pathssl.lifecycle import Failed
from pathssl.records import read_metrics, read_status
from pathssl.run import run
from pathssl.training import checkpoints, step, trainer
from pathssl.training.checkpoints import Checkpoints
from pathssl.training.step import Step

PLAIN = ["task=[]", "probe=[]", "train.log_every=0.125"]


def composed(small: list[str], *more: str) -> dict:
    """The config of a run without a task."""
    return compose([*(override for override in small if not override.startswith("task.")), *PLAIN, *more])


def folder_of(config: dict) -> Path:
    return Path(config["output_dir"]) / "small/arm/seed0"


def test_training_goes_on_while_a_checkpoint_is_written(small, monkeypatch):
    config, taken, save = composed(small), threading.Event(), torch.save
    in_time = []

    def slow_disk(state, path):
        in_time.append(taken.wait(timeout=60))
        save(state, path)

    take = Step.take

    def taking(self, number, *given):
        terms = take(self, number, *given)
        if number == 5:  # the checkpoint of step 4 is being written
            taken.set()
        return terms

    monkeypatch.setattr(
        checkpoints.torch, "save", lambda state, path: (slow_disk if state["row"]["step"] == 4 else save)(state, path)
    )
    monkeypatch.setattr(Step, "take", taking)
    run(config, "arm")
    assert in_time == [True]
    assert [row["step"] for row in read_metrics(folder_of(config))] == list(range(9))


def test_the_state_is_saved_between_checkpoints_where_the_time_has_come(small, monkeypatch):
    config = composed(small, "train.checkpoint_every=1.0", "train.log_every=0.5", "checkpoint.state_every_min=1")
    now, take, saved = [0.0], Step.take, []

    def taking(self, number, *given):
        now[0] += 25.0  # seconds: the third step after a save is the first that is over a minute away
        if number == 7:
            raise RuntimeError("the node is gone")
        return take(self, number, *given)

    class Clock:
        monotonic = staticmethod(lambda: now[0])

    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, at, *given: saved.append(at) or save(self, at, *given))
    monkeypatch.setattr(trainer, "time", Clock)
    monkeypatch.setattr(Step, "take", taking)
    with pytest.raises(Failed):
        run(config, "arm")
    assert saved == [0, 3, 6]
    folder = folder_of(config)
    assert Checkpoints(folder).steps() == [0, 6]  # that of step 3 was of use until then
    monkeypatch.setattr(Step, "take", take)
    run(config, "arm")
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == [0, 4, 8] and Checkpoints(folder).steps() == [0, 8]
    config["output_dir"] += "-unbroken"
    run(config, "arm")
    for name in ("train/loss", "train/grad_norm", "train/replaced_patches"):
        assert [row.get(name) for row in read_metrics(folder_of(config))] == [row.get(name) for row in rows], name


def test_a_gradient_that_is_no_number_stops_before_anything_moves_and_leaves_a_capsule(small, monkeypatch):
    config, clip, calls = composed(small), step.clip_gradients, []

    def clipping(parameters, *given):
        calls.append(None)
        if len(calls) == 3:
            parameters[0].grad[0] = float("nan")
        return clip(parameters, *given)

    monkeypatch.setattr(step, "clip_gradients", clipping)
    with pytest.raises(Failed, match=r"The gradient of step 3 is not a finite number.*replay .*step_00000003"):
        run(config, "arm")
    folder = folder_of(config)
    state = torch.load(folder / "capsules/step_00000003/state.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in state["objective"].values())


def test_weights_that_are_no_numbers_are_not_saved_over_those_that_are(small):
    # The step before the checkpoint breaks them: the loss of the next would tell, too late.
    config = composed(small, "train.checkpoint_every=0.125", "optim.base_lr=1e30", "schedule.warmup=0.0")
    with pytest.raises(Failed, match=r"weights after step 1 .* not saved.*base_lr"):
        run(config, "arm")
    folder = folder_of(config)
    assert Checkpoints(folder).steps() == [0] and Checkpoints(folder).load_last()["row"]["step"] == 0
    assert "Traceback" in read_status(folder)["error"]
