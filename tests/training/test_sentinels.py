import logging
import math

import pytest
import torch

from pathssl.training.sentinels import Collapsed, Sentinels, out_of_memory

K, PATCH_K = 4096, 512
MOST, PATCH_MOST = math.log(K), math.log(PATCH_K)


def sentinels(stop: bool = False) -> Sentinels:
    return Sentinels({"": K, "patch_": PATCH_K}, stop_on_collapse=stop, stall_s=60.0)


def row(step: int, **terms: float) -> dict[str, float]:
    """A healthy row, but for `terms`."""
    healthy = {"teacher_entropy": 0.6 * MOST, "batch_entropy": 0.8 * MOST}
    healthy |= {"patch_teacher_entropy": 0.6 * PATCH_MOST, "patch_batch_entropy": 0.8 * PATCH_MOST}
    return {"step": step} | {f"train/{name}": value for name, value in (healthy | terms).items()}


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_healthy_run_is_left_alone(caplog):
    watch = sentinels(stop=True)
    watch.look({"step": 0, "unsupervised/rankme": 12.0}, 0.0)
    for step in range(1, 101):
        watch.look(row(step) | {"unsupervised/rankme": 1.6}, step / 100)
        watch.waited(step, 59.0)
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("prefix", "most", "kind"), [("", MOST, "targets"), ("patch_", PATCH_MOST, "patches' targets")]
)
def test_uniform_targets_are_warned_of_at_the_third_row_in_a_row_and_once(caplog, prefix, most, kind):
    watch, uniform = sentinels(), {f"{prefix}teacher_entropy": 0.991 * most}
    for step, terms in enumerate((uniform, uniform, {}, uniform, uniform), start=20):
        watch.look(row(step, **terms), step / 100)
    assert not warnings(caplog)
    for step in (25, 26, 27):
        watch.look(row(step, **uniform), step / 100)
    (said,) = warnings(caplog)
    assert said.startswith(f"Collapse at step 25: the teacher's {kind} are uniform") and f"{most:.3f}" in said
    assert "objective.teacher_temperature" in said


def test_targets_may_be_uniform_in_the_first_tenth_and_nearly_uniform_always(caplog):
    watch = sentinels()
    for step in range(1, 11):
        watch.look(row(step, teacher_entropy=MOST), step / 100)
    for step in (11, 12):  # rows of the first tenth do not count towards the three
        watch.look(row(step, teacher_entropy=MOST), step / 100)
    for step in range(13, 100):
        watch.look(row(step, teacher_entropy=0.989 * MOST), step / 100)
    assert not warnings(caplog)
    for step in (97, 98, 99):
        watch.look(row(step, teacher_entropy=MOST), step / 100)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("prefix", "most", "kind"), [("", MOST, "targets"), ("patch_", PATCH_MOST, "patches' targets")]
)
def test_one_prototype_for_all_is_warned_of_once(caplog, prefix, most, kind):
    watch = sentinels()
    watch.look(row(1, **{f"{prefix}batch_entropy": 0.051 * most}), 0.01)
    assert not warnings(caplog)
    for step in (2, 3):
        watch.look(row(step, **{f"{prefix}batch_entropy": 0.049 * most}), step / 100)
    (said,) = warnings(caplog)
    assert said.startswith(f"Collapse at step 2: the teacher's {kind} are one prototype for all")


def test_each_kind_of_collapse_has_its_own_warning(caplog):
    watch = sentinels()
    watch.look({"step": 0, "unsupervised/rankme": 12.0}, 0.0)
    watch.look(row(5, batch_entropy=0.0, patch_batch_entropy=0.0) | {"unsupervised/rankme": 1.0}, 0.5)
    assert len(warnings(caplog)) == 3
    for step in (6, 7, 8):
        watch.look(row(step, teacher_entropy=MOST, patch_teacher_entropy=PATCH_MOST), 0.6)
    assert len(warnings(caplog)) == 5


def test_features_in_one_direction_are_warned_of_where_the_untrained_ones_were_not(caplog):
    watch = sentinels()
    watch.look({"step": 0, "unsupervised/rankme": 12.0}, 0.0)
    watch.look(row(4), 0.4)  # most rows have no RankMe
    watch.look(row(5) | {"unsupervised/rankme": 1.49}, 0.5)
    watch.look(row(6) | {"unsupervised/rankme": 1.2}, 0.6)
    (said,) = warnings(caplog)
    assert "step 5" in said and "RankMe is 1.49, and was 12.00 untrained" in said
    caplog.clear()
    flat, unknown = sentinels(), sentinels()
    flat.look({"step": 0, "unsupervised/rankme": 1.3}, 0.0)  # such slides: all alike to begin with
    for watch in (flat, unknown):
        watch.look(row(5) | {"unsupervised/rankme": 1.1}, 0.5)
    assert not warnings(caplog)


@pytest.mark.parametrize("terms", [{"batch_entropy": 0.1}, {"patch_batch_entropy": 0.1}])
def test_a_collapse_stops_the_run_where_the_config_says_so(caplog, terms):
    watch = sentinels(stop=True)
    watch.look(row(7), 0.07)
    with pytest.raises(Collapsed, match=r"Collapse at step 8.*sentinel\.stop_on_collapse=true"):
        watch.look(row(8, **terms), 0.08)
    assert issubclass(Collapsed, RuntimeError) and not warnings(caplog)


def test_all_kinds_of_collapse_can_stop_a_run():
    watch = sentinels(stop=True)
    watch.look({"step": 0, "unsupervised/rankme": 12.0}, 0.0)
    with pytest.raises(Collapsed, match="one direction"):
        watch.look(row(5) | {"unsupervised/rankme": 1.0}, 0.5)
    watch = sentinels(stop=True)
    for step in (50, 51):
        watch.look(row(step, patch_teacher_entropy=PATCH_MOST), step / 100)
    with pytest.raises(Collapsed, match="uniform"):
        watch.look(row(52, patch_teacher_entropy=PATCH_MOST), 0.52)


def test_an_objective_without_patch_targets_is_watched_for_its_own(caplog):
    watch = Sentinels({"": K}, stop_on_collapse=False, stall_s=1.0)
    watch.look({"step": 1, "train/batch_entropy": 0.0}, 0.1)
    assert len(warnings(caplog)) == 1


def test_a_stall_is_named_with_its_step_and_what_to_look_at(caplog):
    watch = sentinels()
    watch.waited(12, 60.0)
    assert not warnings(caplog)
    watch.waited(13, 75.4)
    (said,) = warnings(caplog)
    assert (
        said.startswith("Step 13 waited 75 s") and "sentinel.stall_s=60" in said and "python -m pathssl doctor" in said
    )


def test_the_end_of_memory_is_said_with_its_cures():
    cures = ("parallel.accumulate", "parallel.activation_checkpointing=true", "batch.size")
    said = out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nTrace"), 128)
    assert all(cure in said for cure in cures) and "128 patches" in said and "GPU" in said and "Trace" not in said
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**60, dtype=torch.uint8)
    said = out_of_memory(failure.value, 128)
    assert all(cure in said for cure in cures) and "machine" in said
    assert "accumulate" not in out_of_memory(failure.value, 1)  # one patch cannot be divided


def test_other_errors_are_none_of_it():
    assert out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 128) is None
