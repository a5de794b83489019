import numpy as np
import pytest

from pathssl.pictures import Footprint, sheet, slide_picture, strip, views_picture


def flat(colour, size=40):
    return np.full((size, size, 3), colour, np.uint8)


def test_a_strip_keeps_every_pixel():
    picture = np.asarray(strip([flat(10), flat(200)]))
    assert picture.shape == (40, 84, 3)
    assert (picture[:, :40] == 10).all() and (picture[:, 44:] == 200).all() and (picture[:, 40:44] == 255).all()


def test_a_sheet_has_its_images_in_reading_order_enlarged_by_a_whole_factor_with_text_below():
    picture = np.asarray(sheet([flat(k) for k in (0, 60, 120)], ["a", "b\nlow", "c"], columns=2))
    factor = 4  # 40 px are shown as 160
    assert (picture[:160, :160] == 0).all() and (picture[:160, 168:328] == 60).all()
    below = picture[160:, :160]
    row = int(np.flatnonzero((below == 120).all(axis=(1, 2)))[0]) + 160
    assert (picture[row : row + 40 * factor, :160] == 120).all()
    assert (picture[160:row, :160] < 150).any() and (picture[160:row, 168:328] < 150).any()  # the captions


def test_a_long_caption_widens_its_column_instead_of_being_cut():
    assert sheet([flat(0)], ["a caption that is wider than the image below it"], 1).width > 300


@pytest.mark.parametrize("side", [2, 30])
def test_a_footprint_is_drawn_in_its_magnification_s_colour_however_small(side):
    ground, mask = np.full((400, 400, 3), 200, np.uint8), np.ones((400, 400), bool)
    one = Footprint(100, 120, side, 0.5)
    picture = np.asarray(slide_picture(ground, mask, [one], {1.0: "1", 0.5: "0.5"}))[:400]
    blue = (picture == (0, 114, 178)).all(axis=-1)
    rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    assert (
        abs((rows[0] + rows[-1]) / 2 - (120 + side / 2)) <= 1
        and abs((columns[0] + columns[-1]) / 2 - (100 + side / 2)) <= 1
    )
    assert rows[-1] - rows[0] >= 5
    assert not (picture == (213, 94, 0)).all(axis=-1).any()


def test_glass_is_paled_and_the_mask_is_outlined():
    ground, mask = np.full((400, 400, 3), 55, np.uint8), np.zeros((400, 400), bool)
    mask[100:200, 100:200] = True
    picture = np.asarray(slide_picture(ground, mask, [], {0.5: "0.5"}))[:400]
    assert (picture[150, 150] == 55).all() and (picture[50, 50] == 205).all()
    assert (picture[100, 150] == (29, 26, 36)).all() and (picture[199, 150] == (29, 26, 36)).all()


def test_views_stand_labelled_beside_their_patch(small):
    from pathssl.cli import compose
    from pathssl.make import make

    views = make(compose([*small, "augmentation.local_crops=3"])["augmentation"])
    patches = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), np.uint8)
    seeds = np.array([1, 2], np.uint64)
    both, first = (np.asarray(views_picture(patches[:n], seeds[:n], views)) for n in (2, 1))
    factor = 4  # local views of 16 px are shown as 64
    assert np.array_equal(both[: 40 * factor : factor, : 40 * factor : factor], patches[0])
    assert np.array_equal(both[: first.shape[0]], first)  # a patch's views do not depend on its neighbours
    assert both.shape[1] == first.shape[1] and both.shape[0] > 2 * 40 * factor
