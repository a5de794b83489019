"""The filter of patches: OpenCV's hue, saturation and value, and what becomes of patches that it turns down."""

import itertools

import numpy as np
import pytest
from small_loader import BATCH, FOUR, SINGLE, digest, loader, reader

from pathssl.data.coverage import Coverage
from pathssl.data.loader import Loader
from pathssl.data.patch_filter import HsvFilter
from pathssl.errors import UserError

MIDNIGHT = {"hue": [90, 180], "saturation": [8, 255], "value": [103, 255]}
PURPLE, GREEN, GREY, DARK = (170, 90, 160), (90, 170, 90), (150, 150, 150), (90, 40, 80)


def hsv(least=0.6, **bounds) -> HsvFilter:
    return HsvFilter(least=least, **(MIDNIGHT | bounds))


@pytest.mark.parametrize(("colour", "share"), [(PURPLE, 1), (GREEN, 0), (GREY, 0), (DARK, 0), ((255, 255, 255), 0)])
def test_tissue_s_colours_pass_and_ink_glass_and_black_do_not(colour, share):
    assert hsv().share(np.full((8, 8, 3), colour, np.uint8)) == share


def test_so_many_pixels_are_enough():
    patch = np.full((10, 10, 3), GREY, np.uint8)
    patch[:6] = PURPLE
    assert hsv(0.6).share(patch) == 0.6 and hsv(0.6)(patch) and not hsv(0.61)(patch)


@pytest.mark.parametrize("hue", [(90, 180), (0, 10), (30, 60), (179, 180), (45, 45)])
def test_every_colour_is_where_opencv_has_it(hue):
    cv2 = pytest.importorskip("cv2")
    colours = np.array(list(itertools.product(range(0, 256, 5), repeat=3)), np.uint8)[None]
    found = cv2.inRange(cv2.cvtColor(colours, cv2.COLOR_RGB2HSV), (hue[0], 8, 103), (hue[1], 255, 255))
    assert round(hsv(hue=hue).share(colours) * colours.shape[1]) == np.count_nonzero(found)
    one = hsv(hue=hue)
    assert [one.share(colour[None]) for colour in colours[0, ::211]] == (found[0, ::211] / 255).tolist()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"least": 1.5}, "patch_filter.least=1.5"),
        ({"least": True}, "patch_filter.least=True"),
        ({"hue": [90, 190]}, r"patch_filter.hue=\[90, 190\].*0 to 180"),
        ({"value": [200, 100]}, r"patch_filter.value=\[200, 100\]"),
        ({"saturation": [8]}, r"patch_filter.saturation=\[8\]"),
        ({"hue": 90}, r"patch_filter.hue=90: give two"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(change, says):
    with pytest.raises(UserError, match=says):
        hsv(**change)


def filtered(index, region=SINGLE, accepts=None):
    """Accepts a good half of the patches."""
    one = reader(index, region)
    one.accepts = hsv(saturation=[40, 255]) if accepts is None else accepts
    return one


@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
def test_what_is_turned_down_is_replaced_by_the_next_draw_of_its_own_counter(index, region):
    one, indices = filtered(index, region), np.arange(48)
    free = reader(index, region).read(indices)
    found = one.read(indices)
    redraw = found.draws.redraw
    assert found.replaced == [] and 5 < (redraw == 0).sum() < 43
    for row in range(48):
        assert one.accepts(found.pixels[row])
        for earlier in range(redraw[row]):
            assert one.turns_down(one.sampler.sample(0, indices[row : row + 1], earlier), 0)
        taken = one.sampler.sample(0, indices[row : row + 1], int(redraw[row]))
        assert [getattr(taken, n)[0] for n in ("slide", "x0", "y0")] == [
            getattr(found.draws, n)[row] for n in ("slide", "x0", "y0")
        ]
        if redraw[row] == 0:
            np.testing.assert_array_equal(found.pixels[row], free.pixels[row])
    alone = one.read(indices[31:32])
    np.testing.assert_array_equal(alone.pixels[0], found.pixels[31])


def test_any_number_of_workers_reads_the_same_filtered_patches(index):
    def batches(workers, region):
        return Loader(filtered(index, region), workers=workers, prefetch=2).batches(0, 8)

    for region in (SINGLE, FOUR):
        assert (
            digest(batches(2, region)) == digest(batches(0, region)) != digest(loader(index, 0, region).batches(0, 8))
        )


def test_what_was_turned_down_is_counted_and_goes_on_being_counted(index):
    one = filtered(index)
    coverage, draws = Coverage(one.sampler), []
    for batch in Loader(one, workers=0, prefetch=1).batches(0, 4):
        coverage.add(batch.step, batch.patches.draws, batch.patches.replaced)
        draws.append(int(batch.patches.draws.redraw.sum()))
    assert coverage.table()["turned_down"] == sum(draws) > 0
    assert coverage.table()["total"]["patches"] == 4 * BATCH
    both = Coverage.merged([coverage.state(), coverage.state()])
    assert coverage.table(both)["turned_down"] == 2 * sum(draws)


def test_a_filter_that_nothing_passes_ends_in_a_sentence(index, monkeypatch):
    monkeypatch.setattr("pathssl.data.patches._MAX_TURNED_DOWN", 30)
    one = filtered(index, accepts=hsv(1.0))
    with pytest.raises(UserError, match=r"patch_filter=hsv \(at least 100% .* turned down 30 draws for patch 0"):
        one.read(np.arange(1))
