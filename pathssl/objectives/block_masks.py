"""Which tokens the student is not shown: blocks, as in BEiT (Bao et al. 2022, arXiv 2106.08254, algorithm 1), which iBOT and DINOv2 follow.

Axes: B patches, G global views, I = B G images, N = rows x cols tokens.
"""

import math

import numpy as np
from einops import rearrange

from pathssl.errors import UserError
from pathssl.seeding import uniforms

ASPECT = (0.3, 1 / 0.3)
SMALLEST_BLOCK = 4  # tokens
BLOCKS = 24  # that are tried before the rest is filled up
DRAWS = 5  # of a block: area, aspect, top, left, start


def block_masks(
    seeds: np.ndarray, images: int, rows: int, cols: int, probability: float, ratio: tuple[float, float]
) -> np.ndarray:
    """(B, G, rows, cols) bool, True where a token is masked; G = `images`, `seeds` is (B,) uint64.

    With `probability` an image is masked, and then round(r N) of its tokens are, r uniform in `ratio`. Image (b, g) depends on
    seeds[b] and g alone, not on its batch; so the share of masked images is right on average, where DINOv2's is exact in each batch.
    """
    low, high = ratio
    if not (0 <= probability <= 1 and 0 <= low <= high <= 1):
        raise UserError(
            f"Masks were given a probability of {probability} and a ratio of {low} to {high}; both lie between 0 and 1, "
            "and the ratio's first number is not above its second."
        )
    draws = uniforms(0, "mask", seeds, images * (2 + DRAWS * BLOCKS))
    draws_IT = rearrange(draws, "b (g t) -> (b g) t", g=images)
    count = np.rint((low + (high - low) * draws_IT[:, 1]) * (rows * cols)).astype(np.int64)
    missing_I = np.where(draws_IT[:, 0] < probability, count, 0)
    masks_IN = np.zeros((len(missing_I), rows * cols), bool)
    blocks_ITD = rearrange(draws_IT[:, 2:], "i (t d) -> i t d", d=DRAWS)
    for t in range(BLOCKS):
        unfinished = np.flatnonzero(missing_I)
        draws_ID, missing = blocks_ITD[unfinished, t], missing_I[unfinished]
        added = _part(_blocks(draws_ID, missing, rows, cols) & ~masks_IN[unfinished], missing, draws_ID[:, 4])
        masks_IN[unfinished] |= added
        missing_I[unfinished] -= added.sum(1)
    unfinished = np.flatnonzero(missing_I)
    masks_IN[unfinished] |= _part(~masks_IN[unfinished], missing_I[unfinished], blocks_ITD[unfinished, 0, 4])
    return rearrange(masks_IN, "(b g) (h w) -> b g h w", g=images, h=rows)


def _blocks(draws_ID: np.ndarray, missing_I: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """(I, N) bool: a rectangle in each image, none where it would be larger than the image.

    Its area, but for rounding, is between the smallest block and what is missing.
    """
    area = SMALLEST_BLOCK + draws_ID[:, 0] * np.maximum(missing_I - SMALLEST_BLOCK, 0)
    aspect = np.exp(math.log(ASPECT[0]) + draws_ID[:, 1] * math.log(ASPECT[1] / ASPECT[0]))
    height, width = np.rint(np.sqrt(area * aspect))[:, None], np.rint(np.sqrt(area / aspect))[:, None]
    top = np.floor(draws_ID[:, 2:3] * (rows - height + 1))
    left = np.floor(draws_ID[:, 3:4] * (cols - width + 1))
    fits = (height <= rows) & (width <= cols)
    y, x = np.arange(rows), np.arange(cols)
    inside_y = fits & (y >= top) & (y < top + height)
    inside_x = (x >= left) & (x < left + width)
    return rearrange(inside_y[:, :, None] & inside_x[:, None, :], "i h w -> i (h w)")


def _part(free_IN: np.ndarray, missing_I: np.ndarray, start_I: np.ndarray) -> np.ndarray:
    """(I, N) bool: `missing` free tokens in a row, line by line from the one that the draw `start` names; all, where there are fewer."""
    free_tokens_I = free_IN.sum(1)
    rank_IN = np.cumsum(free_IN, axis=1, dtype=np.int32) - 1
    rank_IN -= (start_I * free_tokens_I).astype(np.int32)[:, None]
    rank_IN += np.where(rank_IN < 0, free_tokens_I[:, None], 0).astype(np.int32)
    return free_IN & (rank_IN < missing_I[:, None])
