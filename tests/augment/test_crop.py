import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torchvision.transforms import RandomResizedCrop

from pathssl.augment.crop import Crop, source_tables
from pathssl.augment.draws import Stream


def crop(**changes):
    settings = {
        "view_px": 32,
        "scale": (0.05, 0.4),
        "ratio": (3 / 4, 4 / 3),
        "horizontal_flip": 0.5,
        "vertical_flip": 0.5,
        "turn": True,
    }
    return Crop(**settings | changes)


def drawn_flat(part, views, seeds, patch_px):
    drawn = part.draw(Stream("local", views, seeds), patch_px)
    return {name: values.reshape(-1) for name, values in drawn.items()}


@pytest.mark.parametrize(
    "patch_px, view_px, scale",
    [(96, 32, (0.05, 0.4)), (96, 64, (0.4, 1.0)), (75, 23, (0.05, 1.0)), (40, 50, (0.1, 1.0)), (256, 20, (0.3, 1.0))],
)
def test_resized_crop_equals_torchvision_antialiased_bilinear_on_floats_within_2e_6(patches, patch_px, view_px, scale):
    images = patches[:, :patch_px, :patch_px] if patch_px <= 96 else patches.tile(1, 3, 3, 1)[:, :patch_px, :patch_px]
    part = crop(view_px=view_px, scale=scale, horizontal_flip=0.0, vertical_flip=0.0, turn=False)
    drawn = drawn_flat(part, 4, np.arange(7), patch_px)
    views = part(source_tables(images, turned=False), drawn)
    floats = images.permute(0, 3, 1, 2) / 255
    for n, view in enumerate(views):
        box = [int(drawn[name][n]) for name in ("top", "left", "height", "width")]
        expected = tv.resized_crop(floats[n % 7], *box, size=[view_px, view_px], antialias=True)
        torch.testing.assert_close(view, expected, rtol=0, atol=2e-6)


def test_the_whole_patch_at_its_own_size_is_returned_unchanged(patches):
    part = crop(view_px=96, scale=(1.0, 1.0), ratio=(1.0, 1.0), horizontal_flip=0.0, vertical_flip=0.0, turn=False)
    views = part(source_tables(patches, turned=False), drawn_flat(part, 1, np.arange(7), 96))
    torch.testing.assert_close(views, patches.permute(0, 3, 1, 2) / 255, rtol=0, atol=1e-7)


@pytest.mark.parametrize("left_right", [False, True])
@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("quarter", [0.0, 0.3, 0.6, 0.9])
def test_flip_then_turn_equals_flips_and_rot90_of_the_unturned_view_to_the_bit(
    patches, monkeypatch, left_right, top_down, quarter
):
    draw = Stream.uniforms

    def fixed(self, purpose, n, attempt=0):
        u = draw(self, purpose, n, attempt)
        values = {"turn": quarter, "flip": [1.0 - left_right, 1.0 - top_down]}
        return np.broadcast_to(values[purpose], u.shape) if purpose in values else u

    monkeypatch.setattr(Stream, "uniforms", fixed)
    seeds = np.arange(7)
    plain = crop(horizontal_flip=0.0, vertical_flip=0.0, turn=False)
    expected = plain(source_tables(patches, turned=False), drawn_flat(plain, 2, seeds, 96))
    axes = [axis for axis, flipped in ((-1, left_right), (-2, top_down)) if flipped]
    expected = torch.rot90(expected.flip(axes), int(quarter * 4), (-2, -1))
    turned = crop()(source_tables(patches, turned=True), drawn_flat(crop(), 2, seeds, 96))
    # The transposed table is summed over rows first, so a quarter turn may round otherwise; anything else may not.
    tolerance = 1e-6 if int(quarter * 4) % 2 else 0
    torch.testing.assert_close(turned, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("scale", [(0.05, 0.4), (0.4, 1.0)])
def test_boxes_lie_in_the_patch_and_areas_and_ratios_fill_their_ranges(scale):
    drawn = crop(scale=scale).draw(Stream("local", 4, np.arange(2000)), 256)
    top, left, height, width = (drawn[name] for name in ("top", "left", "height", "width"))
    assert min(top.min(), left.min()) >= 0 and (top + height).max() <= 256 and (left + width).max() <= 256
    area, ratio = height * width / 256**2, width / height
    rounding = 0.01
    assert scale[0] - rounding <= area.min() < scale[0] + 0.01 and scale[1] - 0.01 < area.max() <= scale[1] + rounding
    assert 3 / 4 - 0.02 <= ratio.min() < 0.77 and 1.3 < ratio.max() <= 4 / 3 + 0.02
    assert abs(np.log(ratio).mean()) < 0.01
    if scale[1] < 0.5:  # no box is ever rejected, so the area is uniform
        assert np.allclose(np.quantile(area, (0.25, 0.5, 0.75)), np.interp((0.25, 0.5, 0.75), (0, 1), scale), atol=0.01)


def test_boxes_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    image = torch.empty(3, 256, 256)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.4, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    drawn = crop(scale=(0.4, 1.0)).draw(Stream("global", 2, np.arange(4000)), 256)
    for column, name in enumerate(("top", "left", "height", "width")):
        quantiles = np.arange(0.1, 1, 0.1)
        ours = np.quantile(drawn[name], quantiles)
        assert np.abs(ours - np.quantile(theirs[:, column], quantiles)).max() < 5, name


def test_a_patch_no_box_fits_into_is_taken_whole():
    drawn = crop(scale=(1.0, 1.0), ratio=(0.5, 2.0)).draw(Stream("global", 2, np.arange(50)), 64)
    assert (drawn["height"] == 64).all() and (drawn["width"] == 64).all() and (drawn["top"] == 0).all()


def test_orientations_come_with_their_probabilities():
    seeds = np.arange(5000)
    drawn = crop(horizontal_flip=0.5, vertical_flip=0.0, turn=False).draw(Stream("global", 2, seeds), 64)
    assert abs(drawn["flip_columns"].mean() - 0.5) < 0.02
    assert not drawn["flip_rows"].any() and not drawn["transpose"].any()
    drawn = crop().draw(Stream("global", 2, seeds), 64)
    eight = drawn["transpose"] * 4 + drawn["flip_rows"] * 2 + drawn["flip_columns"]
    assert np.abs(np.bincount(eight.ravel(), minlength=8) / eight.size - 1 / 8).max() < 0.015
