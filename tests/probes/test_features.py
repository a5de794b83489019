"""Features are what the frozen encoder says of the normalised images, and the encoder is left as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from pathssl.probes.features import extract
from pathssl.probes.images import array_batches

NORM = {"device": "cpu", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}


class Means(nn.Module):
    """The mean of each colour."""

    def forward(self, images_BCHW):
        return images_BCHW.mean(dim=(2, 3))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)


def test_images_are_scaled_and_normalised_by_colour_and_stay_in_order(images):
    features = extract(Means(), array_batches(images, 4), **NORM)
    expected = (images.mean(axis=(1, 2)) / 255 - NORM["mean"]) / NORM["std"]
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_the_encoder_is_frozen_during_and_unchanged_after(images):
    encoder = nn.Sequential(Means(), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 5))
    encoder[1].eval()
    modes = [module.training for module in encoder.modules()]
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    first, second = (extract(encoder, array_batches(images, size), **NORM) for size in (4, 10))
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_the_modes_come_back_also_where_the_encoder_fails(images):
    encoder = nn.Sequential(nn.Dropout(0.5), nn.Linear(7, 5))
    with pytest.raises(RuntimeError):
        extract(encoder, array_batches(images, 4), **NORM)
    assert encoder.training and encoder[0].training


def test_tokens_instead_of_features_are_refused(images):
    with pytest.raises(ValueError, match=r"must return \(B, D\) features"):
        extract(nn.Identity(), array_batches(images, 4), **NORM)


def test_nan_is_refused(images):
    encoder = nn.Sequential(Means(), nn.Linear(3, 2))
    nn.init.constant_(encoder[1].bias, float("nan"))
    with pytest.raises(FloatingPointError, match="NaN or Inf for 10 of 10 images"):
        extract(encoder, array_batches(images, 4), **NORM)
