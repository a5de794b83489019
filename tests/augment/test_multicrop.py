import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from skimage_stains import unclipped

from pathssl.augment import MultiCrop
from pathssl.augment.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION
from pathssl.errors import UserError

SEEDS = np.array([5, 2**63 + 11, 1, 2**40, 0, 77, 123456789], np.uint64)
OFF = {"hed": None, "jitter": None, "grey": None, "blur": None, "solarise": None}
STILL = {"horizontal_flip": 0.0, "vertical_flip": 0.0, "turn": False}


@pytest.mark.parametrize("option", ["dino", "dino_hed", "weak"])
def test_views_have_the_shapes_of_the_contract(settings, patches, option):
    views = MultiCrop(**settings(option))(patches, SEEDS)
    assert views["global"].shape == (2, 7, 3, 64, 64) and views["local"].shape == (8, 7, 3, 32, 32)
    for view in views.values():
        assert view.dtype == torch.float32 and view.is_contiguous() and not view.requires_grad
        assert view.min() >= -1 - 1e-5 and view.max() <= 1 + 1e-5 and view.std() > 0.1


@pytest.mark.parametrize("option", ["dino", "dino_hed", "weak"])
@pytest.mark.parametrize("global_px, local_px, patch_px", [(64, 32, 96), (50, 23, 75), (33, 14, 96)])
def test_views_of_a_patch_are_the_same_to_the_bit_alone_and_in_any_batch(
    settings, patches, option, global_px, local_px, patch_px, monkeypatch
):
    views = MultiCrop(**settings(option, global_px=global_px, local_px=local_px))
    patches = patches[:, :patch_px, :patch_px]
    whole = views(patches, SEEDS)
    order = np.array([3, 0, 6, 2])
    some = views(patches[order], SEEDS[order])
    monkeypatch.setattr("pathssl.augment.multicrop.CHUNK_VALUES", {"cpu": 1})
    chunked = views(patches, SEEDS)
    for kind in ("global", "local"):
        assert torch.equal(some[kind], whole[kind][:, order])
        assert torch.equal(chunked[kind], whole[kind])
        for b in range(7):
            assert torch.equal(views(patches[b : b + 1], SEEDS[b : b + 1])[kind][:, 0], whole[kind][:, b])


def test_the_same_seed_repeats_itself_whatever_torch_and_numpy_drew_and_another_seed_does_not(settings, patches):
    views = MultiCrop(**settings("dino_hed"))
    first = views(patches, SEEDS)
    torch.manual_seed(3)
    np.random.seed(3)
    second, other = views(patches, SEEDS.astype(np.int64)), views(patches, SEEDS + np.uint64(1))
    for kind in ("global", "local"):
        assert torch.equal(first[kind], second[kind])
        assert not (first[kind] == other[kind]).flatten(2).all(-1).any()


def test_patches_are_not_changed(settings, patches):
    before = patches.clone()
    MultiCrop(**settings("dino_hed"))(patches, SEEDS)
    assert torch.equal(before, patches)


def test_with_everything_off_whole_patches_come_back_normalised(settings, patches):
    whole = {
        "global_scale": [1.0, 1.0],
        "ratio": [1.0, 1.0],
        "global_px": 96,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.4, 0.3],
    }
    views = MultiCrop(**settings("dino", **OFF, **STILL, **whole))(patches, SEEDS)["global"]
    mean, std = (torch.tensor(whole[name])[:, None, None] for name in ("mean", "std"))
    expected = (patches.permute(0, 3, 1, 2) / 255 - mean) / std
    torch.testing.assert_close(views, expected.expand(2, -1, -1, -1, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("off", list(OFF))
def test_switching_one_term_off_leaves_every_other_terms_parameters_as_they_were(settings, off):
    on = MultiCrop(**settings("dino_hed")).draw(SEEDS, 96)
    without = MultiCrop(**settings("dino_hed", **{off: None})).draw(SEEDS, 96)
    for kind in on:
        assert set(on[kind]) - set(without[kind]) == {off}
        for term, parameters in without[kind].items():
            for name, values in parameters.items():
                assert np.array_equal(values, on[kind][term][name])


@pytest.mark.parametrize("off", list(OFF))
def test_a_term_that_is_off_equals_that_term_with_probability_zero(settings, patches, off):
    never = {name: 0.0 if name.endswith("p") else value for name, value in settings("dino_hed")[off].items()}
    views_off = MultiCrop(**settings("dino_hed", **{off: None}))(patches, SEEDS)
    views_never = MultiCrop(**settings("dino_hed", **{off: never}))(patches, SEEDS)
    for kind in views_off:
        assert torch.equal(views_off[kind], views_never[kind])


def test_more_local_views_leave_the_first_as_they_were(settings, patches):
    two, eight = (MultiCrop(**settings("dino", local_crops=n))(patches, SEEDS) for n in (2, 8))
    assert torch.equal(two["local"], eight["local"][:2]) and torch.equal(two["global"], eight["global"])
    assert MultiCrop(**settings("dino", local_crops=0))(patches, SEEDS)["local"].shape == (0, 7, 3, 32, 32)


@pytest.mark.parametrize("option", ["dino", "dino_hed"])
def test_views_equal_torchvision_and_scikit_image_applied_in_the_published_order_within_1e_4(settings, patches, option):
    views = MultiCrop(**settings(option))
    adjust = {
        BRIGHTNESS: tv.adjust_brightness,
        CONTRAST: tv.adjust_contrast,
        SATURATION: tv.adjust_saturation,
        HUE: tv.adjust_hue,
    }
    made = views(patches, SEEDS)
    for kind, px in (("global", 64), ("local", 32)):
        drawn = views.draw(SEEDS, 96)[kind]
        for v, b in np.ndindex(made[kind].shape[:2]):
            one = {term: {name: x[v, b] for name, x in values.items()} for term, values in drawn.items()}
            box = [int(one["crop"][name]) for name in ("top", "left", "height", "width")]
            image = tv.resized_crop(patches[b].permute(2, 0, 1) / 255, *box, size=[px, px], antialias=True)
            image = image.transpose(-2, -1) if one["crop"]["transpose"] else image
            image = tv.vertical_flip(image) if one["crop"]["flip_rows"] else image
            image = tv.horizontal_flip(image) if one["crop"]["flip_columns"] else image
            if option == "dino_hed" and one["hed"]["chosen"]:
                jitter = one["hed"]["alpha"][None], one["hed"]["beta"][None]
                image = (
                    torch.from_numpy(unclipped(image.permute(1, 2, 0).numpy()[None], *jitter)[0])
                    .float()
                    .permute(2, 0, 1)
                )
            for operation in one["jitter"]["order"]:
                image = adjust[operation](image, float(one["jitter"]["factors"][operation]))
            image = tv.rgb_to_grayscale(image, 3) if one["grey"]["chosen"] else image
            image = (
                tv.gaussian_blur(image, [13, 13], [float(one["blur"]["sigma"])] * 2) if one["blur"]["chosen"] else image
            )
            near_threshold = torch.zeros_like(image, dtype=torch.bool)
            if one["solarise"]["chosen"]:  # rounding decides which side of the threshold a value falls on
                near_threshold = (image - 128 / 255).abs() < 1e-4
                image = tv.solarize(image, 128 / 255)
            expected = tv.normalize(image, [0.5] * 3, [0.5] * 3)
            off = (made[kind][v, b] - expected).abs()
            assert off[~near_threshold].max() < 1e-4


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ratio": [1.2, 1.5]}, "ratio"),
        ({"global_scale": [0.4, 1.2]}, "global_scale"),
        ({"local_scale": [0.5, 0.4]}, "local_scale"),
        ({"local_crops": -1}, "local_crops"),
        ({"horizontal_flip": 2.0}, "horizontal_flip"),
        ({"grey": {"p": 0.2, "q": 1}}, "grey: unknown 'q'"),
        ({"hed": {"p": 0.2}}, "hed: missing 'sigma'"),
        ({"local_px": 4}, "blur.sigma"),
        ({"std": [0.5, 0.5, 0.0]}, "std"),
        ({"global_px": 0}, "global_px"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(settings, changes, message):
    with pytest.raises(UserError, match=message):
        MultiCrop(**settings("dino", **changes))


def test_wrong_patches_are_refused(settings, patches):
    views = MultiCrop(**settings("weak"))
    for wrong, seeds in ((patches[:, :50], SEEDS), (patches.float(), SEEDS), (patches, SEEDS[:3])):
        with pytest.raises(UserError, match="square"):
            views(wrong, seeds)


def test_threads_do_not_change_a_bit(settings, patches):
    views = MultiCrop(**settings("dino_hed"))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = views(patches, SEEDS)
        torch.set_num_threads(2)
        two = views(patches, SEEDS)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[kind], two[kind]) for kind in one)
