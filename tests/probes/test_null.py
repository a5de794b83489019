"""The colour histogram counts pixels, and knows nothing of where they are."""

import numpy as np

from pathssl.probes.images import array_batches
from pathssl.probes.null import BINS, colour_histogram


def test_it_is_numpys_histogram_of_each_colour():
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 9, 3), dtype=np.uint8)
    features = colour_histogram(array_batches(images, 2))
    assert features.shape == (5, 3 * BINS) and features.dtype == np.float32
    for image, row in zip(images, features, strict=True):
        expected = [np.histogram(image[..., c], BINS, (0, 256))[0] / (12 * 9) for c in range(3)]
        np.testing.assert_allclose(row, np.concatenate(expected), rtol=1e-6)


def test_moving_pixels_changes_nothing():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (1, 100, 1, 3), dtype=np.uint8)
    shuffled = image[:, rng.permutation(100)]
    assert np.array_equal(colour_histogram([image]), colour_histogram([shuffled]))
