"""The moving centre, and both ways of centring over two processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from pathssl.errors import UserError
from pathssl.objectives.centring import MovingCentre, SinkhornKnopp
from pathssl.objectives.sinkhorn import sinkhorn

K = 6
SHARES = [(5, 3), (0, 8), (8, 0), (0, 0)]  # rows of the two processes, step after step

# Waits for nobody else: two processes meet in a file, centre their shares of each step, and write what they got.
PROCESS = """
import sys
import numpy as np
import torch
import torch.distributed as dist
from pathssl.objectives.centring import MovingCentre, SinkhornKnopp

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
centring = {"centre": MovingCentre(6, 0.9), "sinkhorn": SinkhornKnopp(3)}
results = {}
for step, shares in enumerate(np.load(f"{folder}/shares.npy").tolist()):
    start = sum(shares[:rank])
    scores = torch.from_numpy(np.load(f"{folder}/scores.npy")[step, start : start + shares[rank]])
    for name, module in centring.items():
        results[f"{name}{step}"] = module.targets(scores, 0.05).probabilities().numpy()
        module.after_step()
    results[f"moved{step}"] = centring["centre"].centre.clone().numpy()
np.savez(f"{folder}/{rank}.npz", **results)
dist.destroy_process_group()
"""


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(0)
    return 0.3 * torch.randn(len(SHARES), 8, K, generator=generator) + torch.linspace(-1, 1, K)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_the_centre_is_the_moving_average_of_mean_scores_and_is_subtracted(scores):
    centring = MovingCentre(K, 0.9)
    centre = np.zeros(K)
    for step in scores:
        targets = centring.targets(step, 0.05).probabilities()
        assert targets.dtype == torch.float32
        assert np.allclose(targets, _softmax((step.double().numpy() - centre) / 0.05), atol=1e-5)
        assert np.allclose(centring.centre, centre, atol=1e-6)  # moves after the step only
        centring.after_step()
        centre = 0.9 * centre + 0.1 * np.mean([row.double().numpy() for row in step], axis=0)
        assert np.allclose(centring.centre, centre, atol=1e-6)


def test_the_centre_is_the_only_state_and_comes_back(scores):
    centring, other = MovingCentre(K, 0.9), MovingCentre(K, 0.9)
    centring.targets(scores[0], 0.05)
    centring.after_step()
    assert list(centring.state_dict()) == ["centre"]
    other.load_state_dict(centring.state_dict())
    one, two = (module.targets(scores[1], 0.05).probabilities() for module in (other, centring))
    assert torch.equal(one, two)


def test_a_step_without_targets_or_without_rows_leaves_the_centre(scores):
    centring = MovingCentre(K, 0.9)
    centring.targets(scores[0], 0.05)
    centring.after_step()
    before = centring.centre.clone()
    centring.after_step()
    assert centring.targets(scores[0, :0], 0.05).probabilities().shape == (0, K)
    centring.after_step()
    assert torch.equal(centring.centre, before)


def test_targets_are_finite_at_a_temperature_of_a_hundredth_and_have_no_gradient():
    scores = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0]], requires_grad=True)
    for centring in (MovingCentre(3, 0.9), SinkhornKnopp(3)):
        targets = centring.targets(scores, 0.01).probabilities()
        assert torch.isfinite(targets).all() and not targets.requires_grad
        assert np.allclose(targets.sum(1), 1, atol=1e-6)


def test_half_precision_scores_are_averaged_in_fp32(scores):
    many = scores[0].bfloat16().repeat(64, 1)
    centring = MovingCentre(K, 0.0)
    assert centring.targets(many, 0.05).probabilities().dtype == torch.float32
    centring.after_step()
    assert np.allclose(centring.centre, many.double().mean(0), atol=1e-6)


def test_sinkhorn_knopp_takes_at_least_one_iteration():
    with pytest.raises(UserError, match="0 iterations"):
        SinkhornKnopp(0)


@pytest.mark.slow
def test_two_processes_with_unequal_shares_equal_one_with_all_rows(scores, tmp_path):
    np.save(tmp_path / "scores.npy", scores.numpy())
    np.save(tmp_path / "shares.npy", SHARES)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), str(rank)], env=environment) for rank in (0, 1)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    ranks = [np.load(tmp_path / f"{rank}.npz") for rank in (0, 1)]
    alone = MovingCentre(K, 0.9)
    for step, shares in enumerate(SHARES):
        rows = scores[step, : sum(shares)]
        expected = {
            "centre": alone.targets(rows, 0.05).probabilities(),
            "sinkhorn": sinkhorn(rows, 0.05, 3).probabilities(),
        }
        alone.after_step()
        for name, whole in expected.items():
            parts = [rank[f"{name}{step}"] for rank in ranks]
            assert [len(part) for part in parts] == list(shares)
            assert np.allclose(np.concatenate(parts), whole, atol=1e-6, rtol=0), (name, step)
        for rank in ranks:
            assert np.allclose(rank[f"moved{step}"], alone.centre, atol=1e-6, rtol=0)
