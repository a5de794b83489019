import pytest
import torch.distributed as dist

from pathssl import distributed
from pathssl.distributed import Placement, check_batch, exit_code, placement
from pathssl.errors import UserError


def test_a_plain_process_is_alone():
    assert placement({}) == Placement(0, 1, 0)
    # What stands in an sbatch script, outside srun: one process, whatever was allotted.
    assert placement({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) == Placement(0, 1, 0)


def test_torchrun_tells_rank_and_address():
    said = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
    assert placement(said) == Placement(3, 8, 1, "node1", 29500)


def test_srun_tells_rank_and_its_first_node():
    said = {
        "SLURM_STEP_NUM_TASKS": "16",
        "SLURM_PROCID": "9",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NODELIST": "node3,node4",
        "SLURM_JOB_ID": "1234567",
        "SLURM_STEP_ID": "0",
    }
    found = placement(said)
    assert (found.rank, found.world_size, found.local_rank, found.address) == (9, 16, 1, "node3")
    assert 20000 <= found.port < 40000 and found.port == placement(said | {"SLURM_PROCID": "0"}).port
    assert found.port != placement(said | {"SLURM_JOB_ID": "1234568"}).port


def test_what_fails_outranks_what_is_killed_for_want_of_it(monkeypatch):
    assert exit_code(1, ValueError("shapes")) == 1
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert exit_code(1, ValueError("shapes")) > 128 + 64 and exit_code(2, UserError("slides")) > 128 + 64
    gone = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:51042")
    assert exit_code(1, gone) == exit_code(1, dist.DistBackendError("NCCL error")) == exit_code(1, None) == 1


def test_a_batch_that_cannot_be_shared_equally_is_refused_with_the_nearest_that_can():
    assert check_batch(48, 3) == 16
    with pytest.raises(UserError, match=r"batch\.size=50 .*accumulate=4: 48 or 52 could"):
        check_batch(50, 4)
