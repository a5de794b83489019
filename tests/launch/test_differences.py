"""Two runs that differ in anything are told apart, and told where."""

import shutil
import time

import pytest
import torch

from pathssl.launch.differences import compare, compare_losses, same_patches
from pathssl.probe_records import write_probe
from pathssl.records import append_metrics, read_metrics, write_coverage
from pathssl.training.checkpoints import Checkpoints

PATCHES, STEPS, WEIGHTS, OPTIMISER, TEACHERS, PROBES = range(6)


def write_run(run, *, losses=(3.0, 2.5), weight=1.0, moment=0.5, digest="00ff", probed=0.75, teacher=1.0):
    """A finished run of two steps."""
    for step, loss in enumerate(losses, start=1):
        append_metrics(run, {"step": step, "patches_seen": 8 * step, "train/loss": loss, "time_s": time.perf_counter()})
    tensors = {
        "objective": {"student.w": torch.tensor([weight, float("nan")])},
        "optimiser": {"w": {"m": torch.tensor(moment)}},
    }
    checkpoints = Checkpoints(run)
    checkpoints.save(1, {"w": torch.tensor([teacher])}, tensors)
    checkpoints.save(2, {"w": torch.ones(1)}, tensors)
    checkpoints.wait()
    write_coverage(run, 2, {"digest": digest, "total": {"patches": 16}})
    write_probe(run, step=2, patches_seen=16, task="t", results={"knn/test/accuracy": probed})
    return run


@pytest.fixture
def reference(tmp_path):
    return write_run(tmp_path / "reference")


def test_equal_runs_are_equal_although_their_clocks_differ_and_nan_equals_itself(reference, tmp_path):
    compared = compare(write_run(tmp_path / "run"), reference)
    assert [item.different for item in compared] == [0] * 6 and all(item.first is None for item in compared)
    assert [item.count for item in compared] == [16, 7, 1, 1, 2, 1]


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"digest": "00fe"}, PATCHES, "digest: 00fe here, 00ff there"),
        ({"losses": (3.0, 2.5000001)}, STEPS, "train/loss of step 2: 2.5000001 here, 2.5 there"),
        ({"losses": (3.0,)}, STEPS, "steps that have a row: [1] here, [1, 2] there"),
        ({"weight": 1.0 + 2**-23}, WEIGHTS, "student.w: differs in 2 of 2 elements, by up to"),
        ({"moment": -0.5}, OPTIMISER, "m of w: differs in 1 of 1 elements, by up to 1"),
        ({"teacher": 1.5}, TEACHERS, "w of step 1: differs in 1 of 1 elements, by up to 0.5"),
        ({"probed": 0.5}, PROBES, "t/knn/test/accuracy of step 2: 0.5 here, 0.75 there"),
    ],
)
def test_a_difference_is_found_and_named(change, kind, says, reference, tmp_path):
    compared = compare(write_run(tmp_path / "run", **change), reference)
    assert [item.different > 0 for item in compared] == [i == kind for i in range(6)]
    assert compared[kind].first.startswith(says)


def test_a_step_that_stands_twice_and_a_missing_teacher_are_differences(reference, tmp_path):
    run = write_run(tmp_path / "run")
    append_metrics(run, read_metrics(run)[-1])
    shutil.rmtree(run / "checkpoints" / "step_00000001")
    compared = compare(run, reference)
    assert compared[STEPS].first.startswith("steps that have a row: [1, 2, 2] here")
    assert compared[TEACHERS].first == "w of step 1 is missing here"


def test_losses_may_differ_by_the_tolerance_and_no_more(reference, tmp_path):
    run = write_run(tmp_path / "run", losses=(3.0003, 2.5))
    losses, ratio = compare_losses(run, reference, tolerance=2e-4)
    assert losses.different == 0 and losses.count == 2 and ratio == pytest.approx(1e-4, rel=0.01)
    losses, _ = compare_losses(run, reference, tolerance=5e-5)
    assert losses.different == 1 and losses.first == "of step 1: 3.0003 here, 3.0 there"
    assert same_patches(run, reference).different == 0
    short, ratio = compare_losses(write_run(tmp_path / "short", losses=(3.0,)), reference, tolerance=1.0)
    assert short.different == 1 and ratio == float("inf")
