import time

import numpy as np
import pytest
from scipy import ndimage, stats

from pathssl.errors import UserError
from pathssl.objectives.block_masks import block_masks

SEEDS = np.random.default_rng(0).integers(0, 2**64, 2000, dtype=np.uint64)


@pytest.fixture(scope="module")
def masks():
    """(B, G, rows, cols) with the published probability and ratio."""
    return block_masks(SEEDS, 2, 14, 14, 0.5, (0.1, 0.5))


@pytest.mark.parametrize(("rows", "cols"), [(14, 14), (16, 16), (4, 4), (2, 2), (7, 12), (1, 1), (1, 9)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.5, 0.9, 1.0])
def test_as_many_tokens_are_masked_as_asked_for(rows, cols, share):
    masks = block_masks(SEEDS[:50], 2, rows, cols, 1.0, (share, share))
    assert masks.shape == (50, 2, rows, cols) and masks.dtype == bool
    assert set(masks.sum((2, 3)).ravel().tolist()) == {round(share * rows * cols)}


def test_a_mask_depends_on_its_seed_and_view_alone(masks):
    order = np.random.default_rng(1).permutation(len(SEEDS))[:300]
    assert np.array_equal(block_masks(SEEDS[order], 2, 14, 14, 0.5, (0.1, 0.5)), masks[order])
    assert np.array_equal(block_masks(SEEDS[77:78], 2, 14, 14, 0.5, (0.1, 0.5)), masks[77:78])
    assert np.array_equal(block_masks(SEEDS[:300], 1, 14, 14, 0.5, (0.1, 0.5)), masks[:300, :1])
    assert block_masks(SEEDS[:0], 2, 14, 14, 0.5, (0.1, 0.5)).shape == (0, 2, 14, 14)


def test_seeds_and_views_have_different_masks():
    masks = block_masks(SEEDS[:200], 2, 14, 14, 1.0, (0.1, 0.5))
    assert len({mask.tobytes() for mask in masks.reshape(400, -1)}) == 400


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_masked_images_is_the_probability(probability):
    masked = block_masks(SEEDS, 2, 6, 6, probability, (0.1, 0.5)).any((2, 3))
    assert abs(masked.mean() - probability) <= 4 * np.sqrt(probability * (1 - probability) / masked.size)


def test_views_of_a_patch_are_masked_independently(masks):
    masked = masks.any((2, 3))
    assert abs(np.corrcoef(masked.T)[0, 1]) < 4 / np.sqrt(len(masked))


def test_the_masked_share_of_an_image_is_uniform_in_the_ratio(masks):
    counts = masks.sum((2, 3))
    shares = counts[counts > 0] / 196
    assert 0.1 <= shares.min() < 0.11 and 0.49 < shares.max() <= 0.5
    assert stats.kstest(shares, stats.uniform(0.1, 0.4).cdf).pvalue > 1e-3


def test_masked_tokens_lie_in_blocks(masks):
    masked = [mask for mask in masks.reshape(-1, 14, 14) if mask.any()]
    regions = np.mean([ndimage.label(mask)[1] for mask in masked])
    neighbours = np.concatenate([mask[1:][mask[:-1]] for mask in masked]).mean()
    scattered = np.random.default_rng(0)
    at_random = [scattered.permuted(mask.ravel()).reshape(14, 14) for mask in masked]
    assert regions < 4 < 15 < np.mean([ndimage.label(mask)[1] for mask in at_random])
    assert neighbours > 0.7 > 0.4 > np.concatenate([mask[1:][mask[:-1]] for mask in at_random]).mean()


def test_no_side_of_the_image_is_masked_more_than_another(masks):
    share = masks.mean((0, 1))
    for other in (share[::-1], share[:, ::-1]):
        assert np.abs(share - other).max() < 0.03


def test_the_tokens_of_the_smallest_images_are_masked_alike():
    for size in (2, 1):
        share = block_masks(SEEDS, 1, size, size, 1.0, (1 / size**2,) * 2).mean((0, 1))
        assert np.abs(share - 1 / size**2).max() < 0.05


def test_the_masks_of_a_large_batch_are_quick():
    block_masks(SEEDS[:256], 2, 14, 14, 0.5, (0.1, 0.5))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        block_masks(SEEDS[:256], 2, 14, 14, 0.5, (0.1, 0.5))
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05  # measured 7 ms; the machine may be busy


@pytest.mark.parametrize(("probability", "ratio"), [(1.5, (0.1, 0.5)), (0.5, (0.5, 0.1)), (0.5, (0.1, 1.1))])
def test_shares_beyond_their_bounds_are_refused(probability, ratio):
    with pytest.raises(UserError, match="between 0 and 1"):
        block_masks(SEEDS[:2], 2, 4, 4, probability, ratio)
