"""Nested subsets: of slides, and of distinct patches, the same for all seeds of a run and all arms."""

from itertools import pairwise

import numpy as np
import pytest
from fake_index import disc, fake_index
from scipy import stats

from pathssl.data.distinct import Distinct
from pathssl.data.limit import limited
from pathssl.data.sampling import Region, Sampler
from pathssl.errors import UserError

SINGLE = Region(patches=1, width=1.0, chunk_batches=1)
NAMES = [f"slide{k}.svs" for k in range(1000)]
PER = pytest.mark.parametrize("per", ["slide", "total"])


def sampler(index, distinct=None, **changes) -> Sampler:
    arguments = {
        "mpp": [0.5, 1.0],
        "weight": [1.0, 1.0],
        "patch_px": 32,
        "min_tissue": 0.2,
        "slides": np.arange(len(index)),
    }
    return Sampler(index, distinct=distinct, **(arguments | {"batch_size": 10, "region": SINGLE} | changes))


@pytest.fixture
def slides(index):
    return fake_index(index, [disc(40, 40), disc(50, 40), disc(60, 60), disc(40, 40)])


def patches(draws) -> list[tuple]:
    return list(zip(draws.slide.tolist(), draws.x0.tolist(), draws.y0.tolist(), draws.mpp.tolist(), strict=True))


def test_fewer_slides_are_among_more_slides_for_fractions_and_numbers():
    subsets = [set(limited(NAMES, limit, 0)) for limit in (1, 0.01, 10, 0.1, 300, 0.3, 1.0, None)]
    assert [len(subset) for subset in subsets] == [1, 10, 10, 100, 300, 300, 1000, 1000]
    assert all(small <= large for small, large in pairwise(subsets))


def test_a_subset_is_a_fair_draw_with_a_seed_of_its_own_and_hardly_moves_when_slides_are_added():
    hundred = limited(NAMES, 100, 0)
    assert hundred == sorted(hundred) and set(hundred) != set(limited(NAMES, 100, 1))
    assert stats.kstest(np.array(hundred) / 1000, "uniform").pvalue > 1e-3
    more = [f"slide{k}.svs" for k in range(1050)]
    kept = {more[k] for k in limited(more, 0.1, 0)} & {NAMES[k] for k in hundred}
    assert len(kept) > 85


@pytest.mark.parametrize("limit", [0, -1, 0.0, 1.5, True, "10%", 1001])
def test_a_limit_that_makes_no_sense_is_refused(limit):
    with pytest.raises(UserError, match=rf"data\.limit\.slides={limit}"):
        limited(NAMES, limit, 0)


@pytest.mark.parametrize("continuous", [False, True])
def test_so_many_distinct_patches_in_total_and_each_as_often(slides, continuous):
    more = {"weight": [1.0], "continuous": True} if continuous else {}
    seen = patches(sampler(slides, Distinct(10, "total", 0), **more).sample(4, np.arange(3000)))
    counts = [seen.count(one) for one in set(seen)]
    assert len(counts) == 10 and stats.chisquare(counts).pvalue > 1e-3


def test_so_many_distinct_patches_of_each_slide(slides):
    draws = sampler(slides, Distinct(10, "slide", 0)).sample(4, np.arange(4000))
    assert stats.chisquare(np.bincount(draws.slide)).pvalue > 1e-3
    seen = patches(draws)
    for k in range(4):
        counts = [seen.count(one) for one in set(seen) if one[0] == k]
        assert len(counts) == 10 and stats.chisquare(counts).pvalue > 1e-3
    thousand = set(patches(sampler(slides, Distinct(1000, "slide", 0)).sample(4, np.arange(40_000))))
    assert stats.binomtest(sum(mpp == 0.5 for *_, mpp in thousand), len(thousand), 0.5).pvalue > 1e-3


@pytest.mark.parametrize("weight_by", ["slide", "case"])
@pytest.mark.parametrize("continuous", [False, True])
def test_a_limit_of_each_slide_keeps_the_mix_of_magnifications_and_how_often_slides_are_drawn(
    index, weight_by, continuous
):
    # A third of the slides is fine enough for all, the others for half of them: what is drawn must not depend on the limit.
    mpp = np.array([0.25, 0.5, 0.5] * 40)
    slides = fake_index(index, [disc(60, 60)] * 120, mpp=mpp, case=[f"case{k // 4}" for k in range(120)])
    ends = [0.25, 0.5, 1.0] if continuous else [0.25, 1.0]
    more = {"mpp": ends, "weight": [3.0, 1.0], "weight_by": weight_by, "continuous": continuous}
    free = sampler(slides, **more).sample(0, np.arange(40_000))
    drawn = sampler(slides, Distinct(200, "slide", 0), **more).sample(0, np.arange(40_000))
    assert (slides.mpp[drawn.slide] <= 1.05 * drawn.mpp).all()
    for fine in (True, False):  # on slides of either kind
        shares = [np.mean((slides.mpp[one.slide] == 0.25)[one.mpp < 0.5] == fine) for one in (free, drawn)]
        assert shares[0] == pytest.approx(shares[1], abs=0.03)
    assert np.mean(drawn.mpp < 0.5) == pytest.approx(np.mean(free.mpp < 0.5), abs=0.015)
    assert np.mean(slides.mpp[drawn.slide] == 0.25) == pytest.approx(np.mean(slides.mpp[free.slide] == 0.25), abs=0.015)


def test_a_slide_that_suits_one_magnification_of_many_has_all_its_patches(index):
    slides = fake_index(index, [disc(60, 60)] * 4, mpp=np.array([0.25, 0.25, 0.25, 1.9]))
    more = {"mpp": [2.0, 1.0, 0.5, 0.25], "weight": [1.0, 3.0, 3.0, 3.0]}
    seen = set(patches(sampler(slides, Distinct(100, "slide", 0), **more).sample(0, np.arange(60_000))))
    assert [sum(one[0] == k for one in seen) for k in range(4)] == [100] * 4


@PER
def test_fewer_patches_are_among_more_patches_and_other_seeds_of_a_run_have_the_same(slides, per):
    sets = [
        set(patches(sampler(slides, Distinct(n, per, 0)).sample(seed, np.arange(80 * n))))
        for n, seed in ((10, 0), (10, 1), (100, 0), (1000, 5))
    ]
    assert sets[0] == sets[1] and sets[0] < sets[2] and sets[2] < sets[3]
    assert not sets[0] & set(patches(sampler(slides, Distinct(10, per, 1)).sample(0, np.arange(300))))


@PER
def test_limited_draws_are_pure_and_have_views_and_positions_as_others(slides, per):
    drawn, free = sampler(slides, Distinct(50, per, 0)), sampler(slides)
    together = drawn.sample(3, np.arange(400))
    assert patches(drawn.sample(3, np.arange(399, -1, -1))) == patches(together)[::-1]
    assert patches(drawn.sample(3, np.arange(100, 110))) == patches(together)[100:110]
    np.testing.assert_array_equal(together.views_seed, free.sample(3, np.arange(400)).views_seed)
    assert (slides.overlaps(together.slide, together.x0, together.y0, together.mpp, 32) >= 0.2).all()


@PER
def test_a_member_that_has_to_be_replaced_is_replaced_by_the_same_patch_wherever_it_comes_up(slides, per):
    drawn = sampler(slides, Distinct(10, per, 0))
    first, second = (patches(drawn.sample(0, np.arange(500), redraw)) for redraw in (0, 1))
    instead = dict(zip(first, second, strict=True))
    assert all(instead[one] == other for one, other in zip(first, second, strict=True))
    assert not set(first) & set(second)
    if per == "slide":  # the same slide at first, another one in the end: it may be broken
        assert all(one[0] == other[0] for one, other in instead.items())
        ninth = patches(drawn.sample(0, np.arange(500), 8))
        assert any(one[0] != other[0] for one, other in zip(first, ninth, strict=True))


def test_slides_too_coarse_or_too_sparse_give_what_they_can(index):
    lone = np.zeros((40, 40), np.uint8)
    lone[20, 20] = 255
    slides = fake_index(index, [lone, disc(40, 40), disc(20, 20)], mpp=np.array([0.25, 0.25, 1.0]))
    drawn = sampler(slides, Distinct(20, "slide", 0), patch_px=256, min_tissue=0.4, mpp=[0.25, 1.0])
    draws = drawn.sample(0, np.arange(3000))
    assert (slides.mpp[draws.slide] <= 1.05 * draws.mpp).all()
    assert (slides.overlaps(draws.slide, draws.x0, draws.y0, draws.mpp, 256) >= 0.4).all()
    assert set(draws.mpp[draws.slide == 2].tolist()) == {1.0} and set(draws.mpp[draws.slide == 1].tolist()) == {
        0.25,
        1.0,
    }


@pytest.mark.parametrize(
    ("patches", "per", "says"),
    [
        (0, "slide", "data.limit.patches=0"),
        (2.5, "slide", "data.limit.patches=2.5"),
        (5, "case", "data.limit.per=case"),
    ],
)
def test_distinct_patches_that_make_no_sense_are_refused(patches, per, says):
    with pytest.raises(UserError, match=says):
        Distinct(patches, per, 0)
    with pytest.raises(UserError, match=r"data\.limit\.seed=x"):
        Distinct(5, "slide", "x")


def test_regions_and_distinct_patches_do_not_go_together(slides):
    with pytest.raises(UserError, match="Choose region=single"):
        sampler(slides, Distinct(10, "slide", 0), region=Region(patches=4, width=2.0, chunk_batches=4))
