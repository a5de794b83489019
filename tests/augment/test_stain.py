from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import hed2rgb, hed_from_rgb, rgb2hed, rgb_from_hed
from skimage_stains import unclipped

from pathssl.augment.draws import Stream
from pathssl.augment.stain import HED_FROM_RGB, RGB_FROM_HED, Hed, jitter_stains

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture
def jitters():
    rng = np.random.default_rng(1)
    return rng.uniform(0.8, 1.2, (7, 3)), rng.uniform(-0.05, 0.05, (7, 3))


def test_the_matrices_are_scikit_images():
    assert np.array_equal(RGB_FROM_HED, rgb_from_hed) and np.allclose(HED_FROM_RGB, hed_from_rgb, atol=1e-12)


def test_pixels_made_of_stains_equal_scikit_images_rgb2hed_and_hed2rgb_within_1e_5(jitters):
    alpha, beta = jitters
    stains = np.random.default_rng(0).uniform(0.02, 0.15, (7, 32, 32, 3))
    images = hed2rgb(stains)
    expected = np.stack([hed2rgb(rgb2hed(x) * a + b) for x, a, b in zip(images, alpha, beta, strict=True)])
    result = jitter_stains(torch.from_numpy(images).float().permute(0, 3, 1, 2).contiguous(), alpha, beta)
    np.testing.assert_allclose(result.permute(0, 2, 3, 1), expected, atol=1e-5)


def test_eight_bit_pixels_whose_stains_are_all_positive_equal_scikit_images_rgb2hed_and_hed2rgb_within_1e_5(jitters):
    alpha, beta = jitters
    pixels = np.random.default_rng(0).integers(20, 256, (7, 64, 64, 3)).astype(np.uint8)
    unmixed = np.log(pixels / 255) / np.log(1e-6) @ hed_from_rgb
    positive = (unmixed >= 0).all(-1)
    assert 0.02 < positive.mean() < 0.5
    expected = np.stack([hed2rgb(rgb2hed(x) * a + b) for x, a, b in zip(pixels, alpha, beta, strict=True)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    result = jitter_stains(images.contiguous(), alpha, beta).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(result[positive], expected[positive], atol=1e-5)
    assert (
        np.abs(result - expected)[~positive].max() > 0.1
    )  # where scikit-image cuts a stain off at 0, it differs: see Hed


def test_any_pixels_equal_scikit_images_matrices_with_negative_stains_kept_within_2e_5(patches, jitters):
    images = patches.permute(0, 3, 1, 2) / 255
    result = jitter_stains(images.clone(), *jitters)
    expected = unclipped(patches.numpy() / 255.0, *jitters)
    np.testing.assert_allclose(result.permute(0, 2, 3, 1), expected, atol=2e-5)


def test_alpha_one_and_beta_zero_give_the_image_back(patches):
    images = patches.permute(0, 3, 1, 2) / 255
    result = jitter_stains(images.clone(), np.ones((7, 3)), np.zeros((7, 3)))
    torch.testing.assert_close(result, images, rtol=0, atol=1e-5)


def test_on_real_tissue_cutting_stains_at_zero_would_recolour_where_no_jitter_is_drawn():
    folder = SHARED / "data" / "labelled_lc25000_lung"
    files = sorted(folder.glob("*/*.jpeg"))[::600]
    if not files:
        pytest.skip("needs the real lung patches of ../shared/data")
    images = np.stack([np.asarray(Image.open(file).convert("RGB").resize((96, 96))) for file in files]) / 255.0
    none = np.ones((len(files), 3)), np.zeros((len(files), 3))
    kept = jitter_stains(torch.from_numpy(images).float().permute(0, 3, 1, 2).contiguous(), *none)
    assert np.abs(kept.permute(0, 2, 3, 1).numpy() - images).max() < 1e-4
    assert np.abs(hed2rgb(rgb2hed(images)) - images).mean() * 255 > 2


def test_jitter_strikes_with_its_probability_within_its_ranges_and_leaves_other_views_alone(patches):
    hed = Hed(p=0.5, sigma=0.05)
    drawn = hed.draw(Stream("local", 8, np.arange(3000)))
    assert abs(drawn["chosen"].mean() - 0.5) < 0.01
    for values, centre in ((drawn["alpha"], 1), (drawn["beta"], 0)):
        assert np.abs(values - centre).max() <= 0.05 and abs(values.mean() - centre) < 0.001
        assert np.abs(values - centre).max() > 0.0499
    images = patches.permute(0, 3, 1, 2) / 255
    drawn = {name: values[0, :7] for name, values in drawn.items()}
    result = hed(images.clone(), drawn)
    changed = (result != images).flatten(1).any(1).numpy()
    assert np.array_equal(changed, drawn["chosen"]) and 0 < changed.sum() < 7
