"""Batches on the device are the loader's, though its memory is used again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pathssl.data.loader import Batch
from pathssl.data.patches import Patches
from pathssl.training.feed import on_device


def batches(count):
    """As the loader gives them: always in the same memory, overwritten when the next one is asked for."""
    memory = np.empty((4, 32, 32, 3), np.uint8)
    for step in range(count):
        memory[:] = step
        yield Batch(step, Patches(memory, SimpleNamespace(), []), 0.0)
    memory[:] = 255


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))],
)
def test_every_step_sees_its_own_batch_once_and_in_order(device):
    seen = []
    for batch, pixels in on_device(batches(7), torch.device(device)):
        assert pixels.device.type == device and pixels.dtype == torch.uint8 and pixels.shape == (4, 32, 32, 3)
        seen.append((batch.step, pixels.unique().tolist()))
    assert seen == [(step, [step]) for step in range(7)]
