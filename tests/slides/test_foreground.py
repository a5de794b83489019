"""Foreground: masks find tissue and only tissue; cells and patches count it by area."""

import numpy as np
import pytest
from golden_slides import REAL, tissue_pixels

from pathssl.errors import UserError
from pathssl.slides.foreground import overlaps, tissue_grid, tissue_mask
from pathssl.slides.slide import open_slide


@pytest.mark.parametrize("method", ["otsu", "hsv"])
def test_the_mask_is_the_tissue(method):
    pixels = tissue_pixels(400, 300)
    truth = (pixels != 244).any(axis=-1)
    assert (tissue_mask(pixels, method) == truth).mean() > 0.97


@pytest.mark.parametrize("method", ["otsu", "hsv"])
@pytest.mark.parametrize("colour", [(255, 255, 255), (240, 238, 236), (0, 0, 0), (3, 0, 2)])
def test_glass_and_the_black_of_scanner_borders_are_not_tissue(method, colour):
    noise = np.random.default_rng(0).integers(-2, 3, (200, 200, 3))
    pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
    assert tissue_mask(pixels, method).mean() < 0.01


def test_a_slide_that_is_all_tissue_is_not_split_into_pale_and_dark():
    pixels = np.full((200, 200, 3), (215, 165, 200), np.uint8)
    pixels[:100] = (120, 60, 140)
    assert tissue_mask(pixels, "otsu").all()
    assert tissue_mask(pixels[:100], "otsu").all()


def test_unknown_methods_are_named():
    with pytest.raises(UserError, match="'unet': choose one of otsu, hsv"):
        tissue_mask(np.zeros((4, 4, 3), np.uint8), "unet")


def test_cells_count_the_area_of_mask_pixels_even_when_sizes_do_not_divide():
    mask = np.zeros((20, 31), bool)
    mask[3:9, 5:17] = True
    cell = 3.7
    fine = np.zeros((200, 310))
    fine[30:90, 50:170] = 1
    grid = tissue_grid(mask, cell, 6, 9)
    for row in range(6):
        for column in range(9):
            part = fine[round(row * 37) : round((row + 1) * 37), round(column * 37) : round((column + 1) * 37)]
            assert abs(grid[row, column] / 255 - part.sum() / 37**2) < 1 / 255
    assert abs(grid.sum() / 255 * cell**2 - mask.sum()) < 0.5


def overlap(tissue: np.ndarray, left: float, top: float, side: float) -> float:
    """One square in one grid."""
    corner, shape = np.array([[top, left]]), np.array([tissue.shape])
    (fraction,) = overlaps(tissue.ravel(), np.zeros(1, np.int64), shape, corner, np.array([side]))
    return fraction


def test_overlap_weighs_cells_by_area_and_counts_outside_as_no_tissue():
    tissue = np.array([[255, 0], [255, 255]], np.uint8)
    assert overlap(tissue, 0, 0, 2) == 0.75
    assert overlap(tissue, 0.5, 0, 1) == 0.5
    assert overlap(tissue, 0.25, 0.5, 1) == 0.5 * 0.75 + 0.5
    assert overlap(tissue, -0.5, 0, 1) == 0.5
    assert overlap(tissue, 1.5, 1.5, 1) == 0.25
    assert overlap(tissue, -1, -1, 8) == 3 / 64
    assert overlap(tissue, 5, 5, 1) == overlap(tissue, -3, 0, 1) == overlap(tissue, 2, 0, 1) == 0


def test_a_square_of_nothing_but_tissue_is_exactly_1_wherever_it_lies():
    tissue = np.full((40, 40), 255, np.uint8)
    for x, side in np.random.default_rng(0).uniform(0, 20, (300, 2)):
        assert overlap(tissue, x, x / 3, side) == 1


def test_overlaps_equal_the_means_of_the_pixels_of_a_mask():
    """Squares in many grids at once, with edges on the pixels of a mask that has 8 to a cell."""
    rng = np.random.default_rng(0)
    grids = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((12, 9), (1, 1), (5, 30))]
    start = np.cumsum([0, *(grid.size for grid in grids)])
    n = 600
    which, side_px = rng.integers(0, 3, n), rng.integers(1, 60, n)
    corner_px = rng.integers(-40, 120, (n, 2))
    shape = np.array([grid.shape for grid in grids])[which]
    got = overlaps(np.concatenate([grid.ravel() for grid in grids]), start[which], shape, corner_px / 8, side_px / 8)
    for k, (top, left), side, fraction in zip(which, corner_px, side_px, got, strict=True):
        mask = np.pad(grids[k].repeat(8, 0).repeat(8, 1).astype(np.float64), 300)
        expected = mask[300 + top : 300 + top + side, 300 + left : 300 + left + side].mean() / 255
        assert fraction == pytest.approx(expected, abs=1e-12)


def test_overlaps_anywhere_equal_a_sum_over_cells_but_for_rounded_edges():
    rng = np.random.default_rng(1)
    tissue = rng.integers(0, 256, (12, 9), dtype=np.uint8)

    def covered(cell: int, begin: float, side: float) -> float:
        return max(0.0, min(cell + 1, begin + side) - max(cell, begin))

    for left, top, side in rng.uniform([-3, -3, 0.1], [10, 13, 6], (200, 3)):
        parts = [
            int(tissue[y, x]) * covered(y, top, side) * covered(x, left, side) for y in range(12) for x in range(9)
        ]
        assert overlap(tissue, left, top, side) == pytest.approx(sum(parts) / (255 * side**2), abs=4 / 16384 / side)


@pytest.mark.parametrize("n", [1, 7, 20_000])
def test_a_square_has_the_same_overlap_alone_and_among_others_to_the_last_bit(n):
    rng = np.random.default_rng(n)
    tissue = rng.integers(0, 256, (30, 30), dtype=np.uint8)
    start, shape = np.zeros(n, np.int64), np.full((n, 2), 30)
    corner, side = rng.uniform(-4, 28, (n, 2)), rng.uniform(0.1, 9, n)
    together = overlaps(tissue.ravel(), start, shape, corner, side)
    for i in range(0, n, 97):
        assert together[i] == overlap(tissue, corner[i, 1], corner[i, 0], side[i])


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data/slides")
@pytest.mark.parametrize(
    ("name", "mpp", "share"), [("CMU-1-Small-Region.svs", None, 0.35), ("tcga-cr-7395-01a-01-ts1.svs", 0.5, 0.64)]
)
@pytest.mark.parametrize("method", ["otsu", "hsv"])
def test_real_tissue_covers_what_one_sees(name, mpp, share, method):
    mask = tissue_mask(open_slide(REAL / name, mpp).thumbnail(8.0), method)
    assert abs(mask.mean() - share) < 0.05
