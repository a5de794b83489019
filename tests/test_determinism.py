"""The same bits each time: what can be seen of it without a GPU."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from pathssl.determinism import deterministic, no_such_kernel, resampled_gradient


@pytest.mark.parametrize(
    ("before", "after"), [((14, 14), (6, 6)), ((4, 4), (2, 3)), ((4, 5), (9, 8)), ((4, 4), (4, 4))]
)
def test_the_gradient_of_resampling_is_torchs_own(before, after):
    image = torch.randn(1, 3, *before, dtype=torch.float64, requires_grad=True)
    resampled = F.interpolate(image, size=after, mode="bicubic", antialias=True)
    gradient = torch.randn_like(resampled)
    (expected,) = torch.autograd.grad(resampled, image, gradient)
    found = resampled_gradient(gradient, after, image.shape, False)
    assert found.shape == image.shape and torch.allclose(found, expected, atol=1e-12)


ENCODER = """
from pathssl.slides import cucim_reader
cucim_reader.available()  # before torch
import torch
from pathssl import determinism
from pathssl.models.encoder import create_encoder
torch.manual_seed(0)
encoder = create_encoder("vit_tiny_patch16_224", {"img_size": 64, "embed_dim": 24, "depth": 1, "num_heads": 2}, 0.0)
images = torch.randn(2, 3, 32, 48)
def gradient():
    encoder.zero_grad()
    encoder(images).square().sum().backward()
    return encoder.pos_embed.grad.clone()
torchs, calls, own = gradient(), [], determinism.resampled_gradient
determinism.resampled_gradient = lambda *arguments: (calls.append(1), own(*arguments))[1]
determinism.resampling_has_a_deterministic_gradient("CPU")
ours = gradient()
print(len(calls), torch.allclose(ours, torchs, atol=1e-6), ours[:, 1:].abs().max().item() > 0)
"""


@pytest.mark.slow
def test_an_encoders_positions_get_the_gradient_where_it_is_registered():
    # In a process of its own: what is registered stays. The CPU stands for the GPU, whose key is registered the same way.
    done = subprocess.run([sys.executable, "-c", ENCODER], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["1", "True", "True"], done.stdout + done.stderr


def test_kernels_must_be_deterministic_and_are_not_only_warned_of():
    # With warn_only torch leaves the gradient of fused attention on GPUs as it is.
    before = torch.are_deterministic_algorithms_enabled()
    try:
        deterministic(True)
        assert (
            torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
        )
        with pytest.raises(RuntimeError) as error:
            torch.zeros(3).put_(torch.tensor([0]), torch.ones(1), accumulate=False)
        assert "put_ does not have a deterministic implementation. train.deterministic=false" in no_such_kernel(
            error.value
        )
        deterministic(False)
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_other_errors_are_not_explained():
    assert no_such_kernel(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
