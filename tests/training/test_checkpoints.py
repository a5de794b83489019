import pytest
import torch

from pathssl.errors import UserError
from pathssl.training.checkpoints import Checkpoints

CPU = torch.device("cpu")


def test_the_last_checkpoint_keeps_its_state_and_all_keep_their_teacher(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load_last(CPU) is None
    for step in (0, 10, 20):
        checkpoints.save(step, {"w": torch.full((2,), float(step))}, {"row": {"step": step}})
    assert checkpoints.steps() == [0, 10, 20]
    assert checkpoints.load_last(CPU)["row"]["step"] == 20
    assert len(list(tmp_path.rglob("teacher.safetensors"))) == 3
    assert len(list(tmp_path.rglob("state.pt"))) == 1


def test_an_unfinished_folder_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"w": torch.ones(1)}, {"row": {"step": 10}})
    half = tmp_path / "checkpoints" / ".step_00000020.tmp"
    half.mkdir()
    (half / "state.pt").write_bytes(b"half")
    assert checkpoints.steps() == [10]
    assert checkpoints.load_last(CPU)["row"]["step"] == 10


def test_a_state_that_cannot_be_read_never_becomes_a_fresh_start(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {"w": torch.ones(1)}, {"row": {"step": 10}})
    state = tmp_path / "checkpoints" / "step_00000010" / "state.pt"
    state.write_bytes(state.read_bytes()[:50])
    with pytest.raises(UserError, match=r"cannot be read"):
        checkpoints.load_last(CPU)
    state.unlink()
    with pytest.raises(UserError, match="no training state"):
        checkpoints.load_last(CPU)
