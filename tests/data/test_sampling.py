import time

import numpy as np
import pytest
from fake_index import disc, fake_index
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pathssl.data.sampling import Draws, Region, Sampler
from pathssl.errors import UserError
from pathssl.slides.slide_index import SlideIndex

FIELDS = ("slide", "x0", "y0", "mpp", "views_seed", "region")
SINGLE, FOUR = Region(patches=1, width=1.0, chunk_batches=1), Region(patches=4, width=2.0, chunk_batches=8)
BOTH = pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])


def sampler(index: SlideIndex, **changes) -> Sampler:
    arguments = {
        "slides": np.arange(len(index)),
        "mpp": [0.5, 1.0],
        "weight": [1.0, 3.0],
        "patch_px": 64,
        "min_tissue": 0.4,
        "batch_size": 10,
        "region": SINGLE,
    }
    return Sampler(index, **(arguments | changes))


def rows(draws: Draws) -> list[tuple]:
    return list(zip(*(getattr(draws, name).tolist() for name in FIELDS), strict=True))


@BOTH
def test_the_ith_patch_is_the_same_alone_in_a_batch_and_in_any_order(index, region):
    drawn = sampler(index, region=region)
    together = rows(drawn.sample(7, np.arange(400)))
    assert together == rows(drawn.sample(7, np.arange(400)[::-1]))[::-1]
    for i in (0, 41, 399):
        assert [together[i]] == rows(drawn.sample(7, np.array([i])))
    assert len(drawn.sample(7, np.arange(0))) == 0

    @given(st.lists(st.integers(0, 399), min_size=1, max_size=60))
    @settings(max_examples=50, deadline=None)
    def any_of_them(chosen):
        assert rows(drawn.sample(7, np.array(chosen))) == [together[i] for i in chosen]

    any_of_them()


@BOTH
def test_a_hundred_thousand_patches_at_once_are_those_that_come_batch_by_batch(index, region):
    drawn = sampler(index, region=region)
    together = rows(drawn.sample(0, np.arange(100_000)))
    for first in (0, 8192, 99_900):
        assert together[first : first + 100] == rows(drawn.sample(0, np.arange(first, first + 100)))


@BOTH
def test_other_seeds_and_redraws_give_other_patches(index, region):
    drawn = sampler(index, region=region)
    base = {row[:5] for row in rows(drawn.sample(0, np.arange(50)))}
    for other in (drawn.sample(1, np.arange(50)), *(drawn.sample(0, np.arange(50), redraw=r) for r in (1, 2))):
        new = {row[:5] for row in rows(other)}
        assert len(new) == 50 and not base & new
        base |= new


@BOTH
def test_every_patch_has_enough_tissue_and_lies_inside_its_slide(index, region):
    draws = sampler(index, region=region).sample(0, np.arange(400))
    assert (index.overlaps(draws.slide, draws.x0, draws.y0, draws.mpp, 64) >= 0.4).all()
    side = 64 * draws.mpp / index.mpp[draws.slide]
    assert (draws.x0 >= 0).all() and (draws.x0 + side <= index.width[draws.slide]).all()
    assert (draws.y0 >= 0).all() and (draws.y0 + side <= index.height[draws.slide]).all()


def test_magnifications_come_by_weight_and_slides_alike(index):
    draws = sampler(index).sample(0, np.arange(4000))
    assert stats.binomtest(int((draws.mpp == 1.0).sum()), 4000, 0.75).pvalue > 1e-3
    assert stats.chisquare(np.bincount(draws.slide, minlength=len(index))).pvalue > 1e-3


def test_magnifications_come_by_weight_and_slides_alike_with_regions(index):
    draws = sampler(index, region=FOUR).sample(0, np.arange(16_000))
    _, first = np.unique(draws.region, return_index=True)
    assert len(first) == 4000
    assert stats.binomtest(int((draws.mpp[first] == 1.0).sum()), 4000, 0.75).pvalue > 1e-3
    assert stats.chisquare(np.bincount(draws.slide[first], minlength=len(index))).pvalue > 1e-3


def test_centres_are_uniform_over_the_tissue(index):
    """A slide that is all tissue: away from its edges, where patches are moved inside, every place is as likely."""
    slide = fake_index(index, [np.full((60, 80), 255, np.uint8)])
    draws = sampler(slide, mpp=[0.25], weight=[1.0]).sample(0, np.arange(6000))
    for start, length in ((draws.x0, 80 * 256), (draws.y0, 60 * 256)):
        inner = start[(start > 0) & (start < length - 64)]
        assert len(inner) > 5900
        assert stats.kstest(inner / (length - 64), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("downsamples", [(1, 4, 16), (1, 3.9987, 16.02)])
def test_corners_are_whole_pixels_of_the_level_that_is_read(index, downsamples):
    slides = fake_index(index, [disc(60, 80)] * 3, downsamples=downsamples)
    for mpp, level in ((0.25, 0), (0.5, 0), (0.98, 1), (1.0, 1), (2.0, 1), (4.0, 2)):
        draws = sampler(slides, mpp=[mpp], weight=[1.0], min_tissue=0.1).sample(0, np.arange(200))
        assert (slides.source(draws.slide, draws.mpp)[0] == level).all()
        position = np.stack([draws.x0, draws.y0]) / downsamples[level]
        off = np.abs(position - np.rint(position))
        assert off.max() < 1e-3 if downsamples[level] == int(downsamples[level]) else off.max() <= 0.5 / 3.9
        assert len(np.unique(np.rint(position[0]) % 4)) == 4  # every pixel of the level, not every second one


def test_a_slide_with_hardly_any_place_for_a_patch_makes_way_for_another(index):
    lone = np.zeros((40, 40), np.uint8)
    lone[20, 20] = 255
    slides = fake_index(index, [lone, disc(40, 40)])
    draws = sampler(slides, mpp=[0.25, 2.0], weight=[1.0, 1.0], patch_px=256).sample(0, np.arange(2000))
    assert stats.binomtest(int((draws.mpp == 2.0).sum()), 2000, 0.5).pvalue > 1e-3
    assert (draws.slide[draws.mpp == 2.0] == 1).all()
    assert (
        stats.binomtest(int((draws.slide[draws.mpp == 0.25] == 1).sum()), int((draws.mpp == 0.25).sum())).pvalue > 1e-3
    )


def test_only_the_slides_given_are_drawn_from(index):
    assert set(sampler(index, slides=np.array([1, 3])).sample(0, np.arange(200)).slide.tolist()) == {1, 3}


def test_a_magnification_of_weight_0_is_not_drawn_and_needs_no_slide(index):
    draws = sampler(index, mpp=[0.1, 0.5, 0.2], weight=[0.0, 0.3, 0.0]).sample(0, np.arange(1000))
    assert set(draws.mpp.tolist()) == {0.5}


def test_views_are_the_same_with_and_without_regions(index):
    single, four = (sampler(index, region=region).sample(3, np.arange(100)) for region in (SINGLE, FOUR))
    assert single.views_seed.tolist() == four.views_seed.tolist()
    assert len(set(single.views_seed.tolist())) == 100
    assert np.bitwise_or.reduce(single.views_seed) == np.uint64(2**64 - 1)


@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
def test_drawing_costs_little_from_thirty_thousand_slides(index, region):
    slides = fake_index(index, [disc(30, 40)] * 30_000)
    drawn = sampler(slides, mpp=[0.25, 0.5, 1.0], weight=[1, 1, 1], patch_px=224, batch_size=64, region=region)
    times_s = []
    for first in range(0, 30 * 512, 512):
        start = time.perf_counter()
        drawn.sample(0, np.arange(first, first + 512))
        times_s.append(time.perf_counter() - start)
    assert min(times_s) / 512 < 15e-6  # measured: 2 and 4 us; 20 where a loop goes through the patches


def test_a_magnification_finer_than_every_slide_is_refused(index):
    with pytest.raises(UserError, match=r"No slide is scanned finely enough for 0\.25"):
        sampler(index, mpp=[0.25], weight=[1.0])


@BOTH
def test_patches_larger_than_the_tissue_end_in_a_sentence_not_in_a_loop(index, region):
    with pytest.raises(UserError, match=r"No position with 100%.* in 65,536 draws"):
        sampler(index, mpp=[8.0], weight=[1.0], min_tissue=1.0, region=region).sample(0, np.arange(1))


@pytest.mark.parametrize(
    "change",
    [{"weight": [1.0]}, {"weight": [0.0, 0.0]}, {"mpp": [0.5, -1.0]}, {"mpp": [], "weight": []}, {"mpp": ["fine"]}],
)
def test_weights_that_make_no_sense_are_refused(index, change):
    with pytest.raises(UserError, match="magnification has mpp="):
        sampler(index, **change)


def test_a_batch_of_no_patches_is_refused(index):
    with pytest.raises(UserError, match="batch_size=0"):
        sampler(index, batch_size=0)
