"""Foreground: masks find tissue and only tissue; cells and patches count it by area."""

import numpy as np
import pytest
from golden_slides import REAL, tissue_pixels

from pathssl.errors import UserError
from pathssl.slides.foreground import overlap, overlaps, tissue_grid, tissue_mask
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


def test_overlap_weighs_cells_by_area_and_counts_outside_as_no_tissue():
    tissue = np.array([[255, 0], [255, 255]], np.uint8)
    assert overlap(tissue, 0, 0, 2) == 0.75
    assert overlap(tissue, 0.5, 0, 1) == 0.5
    assert overlap(tissue, 0.25, 0.5, 1) == pytest.approx(0.5 * 0.75 + 0.5)
    assert overlap(tissue, -0.5, 0, 1) == 0.5
    assert overlap(tissue, 1.5, 1.5, 1) == 0.25
    assert overlap(tissue, 5, 5, 1) == overlap(tissue, -3, 0, 1) == 0


def test_overlaps_equals_overlap_one_by_one():
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 256, (12, 9), dtype=np.uint8)
    left, top = rng.uniform(-4, 12, (2, 300))
    for side in (0.3, 1.0, 4.6):
        one_by_one = [overlap(tissue, x, y, side) for x, y in zip(left.tolist(), top.tolist(), strict=True)]
        np.testing.assert_allclose(overlaps(tissue, left, top, side), one_by_one, atol=1e-9)


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data/slides")
@pytest.mark.parametrize(
    ("name", "mpp", "share"), [("CMU-1-Small-Region.svs", None, 0.35), ("tcga-cr-7395-01a-01-ts1.svs", 0.5, 0.64)]
)
@pytest.mark.parametrize("method", ["otsu", "hsv"])
def test_real_tissue_covers_what_one_sees(name, mpp, share, method):
    mask = tissue_mask(open_slide(REAL / name, mpp).thumbnail(8.0), method)
    assert abs(mask.mean() - share) < 0.05
