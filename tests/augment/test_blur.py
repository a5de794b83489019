import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from pathssl.augment.blur import Blur
from pathssl.augment.draws import Stream
from pathssl.errors import UserError

DINO = Blur(global_1_p=1.0, global_2_p=0.1, local_p=0.5, sigma=[0.1, 2.0])


def test_chosen_views_equal_torchvision_within_1e_6_and_the_others_stay(patches):
    images = (patches.permute(0, 3, 1, 2) / 255).contiguous()
    chosen = np.array([1, 0, 1, 1, 0, 1, 1], bool)
    sigma = np.linspace(0.1, 2.0, 7)
    result = DINO(images.clone(), {"chosen": chosen, "sigma": sigma})
    for image, struck, width, blurred in zip(images, chosen, sigma, result, strict=True):
        expected = tv.gaussian_blur(image, [13, 13], [float(width)] * 2) if struck else image
        torch.testing.assert_close(blurred, expected, rtol=0, atol=1e-6 if struck else 0)


def test_the_kernel_holds_three_of_the_largest_sigma():
    assert DINO.radius_px == 6


def test_each_kind_of_view_is_struck_with_its_probability_and_sigma_fills_its_range():
    of_global = DINO.draw(Stream("global", 2, np.arange(5000)))
    assert of_global["chosen"][0].all() and abs(of_global["chosen"][1].mean() - 0.1) < 0.02
    of_local = DINO.draw(Stream("local", 8, np.arange(2000)))
    assert abs(of_local["chosen"].mean() - 0.5) < 0.02
    assert 0.1 <= of_local["sigma"].min() < 0.11 and 1.99 < of_local["sigma"].max() <= 2.0


def test_a_sigma_of_zero_is_refused():
    with pytest.raises(UserError, match=r"blur\.sigma"):
        Blur(global_1_p=1.0, global_2_p=0.1, local_p=0.5, sigma=[0.0, 2.0])
