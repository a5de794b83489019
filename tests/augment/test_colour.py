import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from pathssl.augment.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION, Grey, Jitter, Solarise
from pathssl.augment.draws import Stream
from pathssl.errors import UserError

ADJUST = {
    BRIGHTNESS: tv.adjust_brightness,
    CONTRAST: tv.adjust_contrast,
    SATURATION: tv.adjust_saturation,
    HUE: tv.adjust_hue,
}
STRONG = {"p": 1.0, "brightness": 0.9, "contrast": 0.9, "saturation": 0.9, "hue": 0.5}
NEUTRAL = np.array([1.0, 1.0, 1.0, 0.0])


@pytest.fixture
def images(patches):
    """(7, 3, 96, 96) float32 with corners that are black, white, grey and of pure colours."""
    images = (patches.permute(0, 3, 1, 2) / 255).contiguous()
    corners = torch.tensor([[0, 0, 0], [1, 1, 1], [0.5] * 3, [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    images[:, :, 0, :8] = corners.T
    return images


@pytest.mark.parametrize("operation", [BRIGHTNESS, CONTRAST, SATURATION, HUE])
def test_each_operation_equals_torchvision_within_1e_5(images, operation):
    amounts = np.linspace(-0.5, 0.5, 7) if operation == HUE else np.linspace(0, 2, 7)
    factors = np.tile(NEUTRAL, (7, 1))
    factors[:, operation] = amounts
    expected = torch.stack([ADJUST[operation](image, float(a)) for image, a in zip(images, amounts, strict=True)])
    jittered = Jitter(**STRONG)(images.clone(), {"factors": factors, "order": np.tile(np.arange(4), (7, 1))})
    torch.testing.assert_close(jittered, expected, rtol=0, atol=1e-5)


def test_all_operations_in_an_order_per_view_equal_torchvision_within_3e_5(images):
    drawn = {name: values[0] for name, values in Jitter(**STRONG).draw(Stream("global", 1, np.arange(7))).items()}
    assert len({tuple(order) for order in drawn["order"]}) > 3
    jittered = Jitter(**STRONG)(images.clone(), drawn)
    for image, factors, order, result in zip(images, drawn["factors"], drawn["order"], jittered, strict=True):
        for operation in order:
            image = ADJUST[operation](image, float(factors[operation]))
        torch.testing.assert_close(result, image, rtol=0, atol=3e-5)


def test_jitter_of_strength_zero_or_probability_zero_changes_nothing(images):
    for jitter in (Jitter(p=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0), Jitter(**STRONG | {"p": 0.0})):
        drawn = {name: values[0] for name, values in jitter.draw(Stream("global", 1, np.arange(7))).items()}
        assert torch.equal(jitter(images.clone(), drawn), images)


def test_jitter_draws_its_ranges_its_probability_and_every_order_alike():
    jitter = Jitter(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    drawn = jitter.draw(Stream("local", 8, np.arange(3000)))
    changed = drawn["factors"] - NEUTRAL
    assert abs((changed != 0).all(axis=-1).mean() - 0.8) < 0.01
    for column, strength in enumerate((0.4, 0.4, 0.2, 0.1)):
        values = changed[..., column][changed[..., column] != 0]
        assert np.abs(values).max() <= strength
        assert np.allclose(np.quantile(values, (0.01, 0.5, 0.99)), (-0.98 * strength, 0, 0.98 * strength), atol=0.01)
    _, counts = np.unique(drawn["order"].reshape(-1, 4), axis=0, return_counts=True)
    assert len(counts) == 24 and np.abs(counts / counts.sum() * 24 - 1).max() < 0.15


def test_grey_equals_torchvision_on_chosen_views_and_leaves_the_others(images):
    chosen = np.array([1, 0, 0, 1, 1, 0, 0], bool)
    result = Grey(p=0.5)(images.clone(), {"chosen": chosen})
    expected = images.clone()
    expected[chosen] = tv.rgb_to_grayscale(images[chosen], num_output_channels=3)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    assert torch.equal(result[~chosen], images[~chosen])
    assert abs(Grey(p=0.2).draw(Stream("local", 8, np.arange(3000)))["chosen"].mean() - 0.2) < 0.01


def test_solarise_equals_torchvision_on_chosen_views_and_strikes_only_second_global_views(images):
    solarise = Solarise(global_2_p=0.2, threshold=128)
    chosen = np.array([0, 1, 0, 0, 1, 0, 0], bool)
    result = solarise(images.clone(), {"chosen": chosen})
    expected = images.clone()
    expected[chosen] = tv.solarize(images[chosen], threshold=128 / 255)
    assert torch.equal(result, expected)
    of_global = solarise.draw(Stream("global", 2, np.arange(5000)))["chosen"].mean(axis=1)
    assert of_global[0] == 0 and abs(of_global[1] - 0.2) < 0.02
    assert not solarise.draw(Stream("local", 8, np.arange(100)))["chosen"].any()


def test_impossible_strengths_are_refused_by_name():
    with pytest.raises(UserError, match=r"jitter\.hue=0\.7"):
        Jitter(**STRONG | {"hue": 0.7})
    with pytest.raises(UserError, match=r"grey\.p=1\.2"):
        Grey(p=1.2)
