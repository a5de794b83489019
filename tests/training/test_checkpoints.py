import resource
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.training.checkpoints import Checkpoints
from pathssl.training.state import gather


def test_the_last_checkpoint_keeps_its_state_and_all_keep_their_teacher(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load_last() is None
    for step in (0, 10, 20):
        checkpoints.save(step, {"w": torch.full((2,), float(step))}, {"row": {"step": step}})
    checkpoints.wait()
    assert checkpoints.steps() == [0, 10, 20]
    assert checkpoints.load_last()["row"]["step"] == 20
    assert len(list(tmp_path.rglob("teacher.safetensors"))) == 3
    assert len(list(tmp_path.rglob("state.pt"))) == 1


def test_an_unfinished_folder_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"w": torch.ones(1)}, {"row": {"step": 10}})
    checkpoints.wait()
    half = tmp_path / "checkpoints" / ".step_00000020.tmp"
    half.mkdir()
    (half / "state.pt").write_bytes(b"half")
    assert checkpoints.steps() == [10]
    assert checkpoints.load_last()["row"]["step"] == 10


def test_a_state_that_cannot_be_read_never_becomes_a_fresh_start(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"w": torch.ones(1)}, {"row": {"step": 10}})
    checkpoints.wait()
    state = tmp_path / "checkpoints" / "step_00000010" / "state.pt"
    state.write_bytes(state.read_bytes()[:50])
    with pytest.raises(UserError, match=r"cannot be read"):
        checkpoints.load_last()
    state.unlink()
    with pytest.raises(UserError, match="no training state"):
        checkpoints.load_last()


def test_what_a_killed_process_left_half_is_cleaned_away(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"w": torch.ones(1)}, {"row": {"step": 10}})
    checkpoints.wait()
    for name in (".step_00000020.tmp", ".step_00000000.old"):
        (checkpoints.folder / name).mkdir()
    checkpoints.clean()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step_00000010"]


def test_only_the_last_and_those_that_are_asked_for_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (0, 10, 20, 30):
        checkpoints.save(step, {"w": torch.ones(1)}, {"row": {"step": step}})
    checkpoints.tidy(lambda steps: [step for step in steps if step == 10])
    checkpoints.wait()
    assert checkpoints.steps() == [10, 30]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step_00000010", "step_00000030"]


def test_a_checkpoint_that_cannot_be_written_is_said_at_the_next_call_and_the_one_before_stays(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"w": torch.ones(1)}, {"row": {"step": 10}})
    checkpoints.wait()
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("pathssl.training.checkpoints.save_file", lambda *_: (_ for _ in ()).throw(full))
    checkpoints.save(20, {"w": torch.ones(1)}, {"row": {"step": 20}})
    with pytest.raises(RuntimeError, match=r"No space left.*make room"):
        checkpoints.wait()
    assert checkpoints.steps() == [10] and checkpoints.load_last()["row"]["step"] == 10


def test_what_training_changes_while_a_checkpoint_is_written_does_not_reach_it():
    model = nn.ModuleDict({"student": nn.Linear(2, 2), "teacher": nn.Linear(2, 2)})
    optimiser = torch.optim.SGD(model["student"].parameters(), lr=0.1)
    state = gather(SimpleNamespace(student=model["student"], state_dict=model.state_dict), optimiser)
    before = state["objective"]["student.weight"].clone()
    with torch.no_grad():
        model["student"].weight.add_(1)
    assert torch.equal(state["objective"]["student.weight"], before)


@pytest.mark.parametrize("large", ["teacher", "state"])
def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(large, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"w": torch.ones(1)}, {"row": {"step": 10}})
    checkpoints.wait()
    tensors = {name: {"w": torch.ones(500_000 if name == large else 1)} for name in ("teacher", "state")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        checkpoints.save(20, tensors["teacher"], tensors["state"] | {"row": {"step": 20}})
        with pytest.raises(RuntimeError, match="could not be written"):
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.steps() == [10] and checkpoints.load_last()["row"]["step"] == 10
