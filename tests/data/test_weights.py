"""What is drawn comes as often as the weights say: slides, cases, tissue, a manifest's weights, continuous magnifications."""

import hashlib

import numpy as np
import pytest
from fake_index import disc, fake_index
from scipy import stats

from pathssl.data.sampling import Region, Sampler
from pathssl.errors import UserError

SINGLE, FOUR = Region(patches=1, width=1.0, chunk_batches=1), Region(patches=4, width=2.0, chunk_batches=8)
CASES = ["a", "a", "a", "a", "b", "b", "c", "d"]
GRIDS = [disc(20, 20)] * 4 + [disc(40, 20)] * 3 + [disc(60, 60)]
WEIGHT = np.array([1.0, 2, 0, 1, 1, 0.5, 3, 1])
LOG_UNIFORM = {"mpp": [0.25, 0.5, 2.0], "weight": [1.0, 2.0], "continuous": True}


def sampler(index, **changes) -> Sampler:
    arguments = {"mpp": [0.5, 1.0], "weight": [1.0, 1.0], "patch_px": 32, "min_tissue": 0.2}
    arguments |= {"slides": np.arange(len(index)), "batch_size": 10, "region": SINGLE, "weight_by": "slide"}
    return Sampler(index, **(arguments | changes))


def as_expected(drawn: np.ndarray, expected: np.ndarray) -> bool:
    counts = np.bincount(drawn, minlength=len(expected))
    assert (counts[expected == 0] == 0).all()
    some = expected > 0
    return stats.chisquare(counts[some], len(drawn) * expected[some] / expected.sum()).pvalue > 1e-3


def test_without_weights_the_draws_are_those_of_the_versions_before(index):
    """Hashes of 3,000 draws, made before there were weights, limits and intervals."""
    slides = fake_index(index, [disc(40, 50), disc(60, 30), disc(8, 8)] * 5)
    known = {SINGLE: ["0ab0d4b32d41205c", "20ca207ec70a3c14"], FOUR: ["d97279d5a0932dbe", "8f05fad65681f821"]}
    for region, hashes in known.items():
        mixed = {"mpp": [0.25, 0.4, 1.0], "weight": [1.0, 3.0, 2.0], "patch_px": 64, "min_tissue": 0.4}
        drawn = sampler(slides, region=region, **mixed)
        for redraw, known_hash in enumerate(hashes):
            draws, found = drawn.sample(7, np.arange(3000), redraw), hashlib.sha256()
            for name in ("slide", "x0", "y0", "mpp", "views_seed", "region"):
                found.update(np.ascontiguousarray(getattr(draws, name)).tobytes())
            assert found.hexdigest()[:16] == known_hash


@pytest.mark.parametrize("more", [{}, {"mpp": [0.5], "weight": [1.0]}, LOG_UNIFORM], ids=["two", "one", "continuous"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "manifest"])
@pytest.mark.parametrize("by", ["slide", "case", "tissue"])
def test_slides_come_by_slide_by_case_or_by_tissue_times_the_manifest_s_weight(index, by, weight, more):
    slides = fake_index(index, GRIDS, case=CASES, weight=weight)
    factor, cases = np.ones(8) if weight is None else weight, np.array(CASES)
    draws = sampler(slides, weight_by=by, **more).sample(3, np.arange(8000))
    if by == "case":
        mean = {c: factor[(cases == c) & (factor > 0)].mean() for c in "abcd"}
        inside = {c: factor[cases == c].sum() for c in "abcd"}
        expected = np.array([mean[c] * f / inside[c] for c, f in zip(cases, factor, strict=True)])
    else:
        expected = factor * (slides.tissue_mm2 if by == "tissue" else 1)
    assert as_expected(draws.slide, expected)


def test_a_case_weighs_the_same_at_each_magnification_whatever_of_it_is_fine_enough(index):
    mpp = np.array([0.25, 0.5, 0.5, 1.0, 0.25, 0.25, 0.5, 1.0])
    slides = fake_index(index, [disc(30, 30)] * 8, mpp=mpp, case=CASES)
    for more in ({"mpp": [0.25, 1.0]}, {"mpp": [0.25, 0.26, 0.5, 1.0], "weight": [1.0, 0.0, 1.0], "continuous": True}):
        draws = sampler(slides, weight_by="case", **more).sample(1, np.arange(9000))
        assert (mpp[draws.slide] <= 1.05 * draws.mpp).all()
        case = np.unique(CASES, return_inverse=True)[1][draws.slide]
        fine, coarse = draws.mpp < 0.4, draws.mpp > 0.96
        assert as_expected(case[fine], np.array([1.0, 1, 0, 0]))  # a's one slide of four as often as b's two
        assert as_expected(draws.slide[fine], np.array([2.0, 0, 0, 0, 1, 1, 0, 0]))
        assert as_expected(case[coarse], np.ones(4))


@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
def test_continuous_magnifications_are_log_uniform_in_each_interval(index, region):
    slides = fake_index(index, [disc(40, 40)] * 3)
    draws = sampler(slides, region=region, **LOG_UNIFORM).sample(2, np.arange(9000))
    _, first = np.unique(draws.region, return_index=True)
    mpp = draws.mpp[first]
    assert stats.binomtest(int((mpp < 0.5).sum()), len(mpp), 1 / 3).pvalue > 1e-3
    for low, high in ((0.25, 0.5), (0.5, 2.0)):
        inside = np.log(mpp[(mpp >= low) & (mpp < high)] / low) / np.log(high / low)
        assert stats.kstest(inside, "uniform").pvalue > 1e-3
    assert len(np.unique(mpp)) > 0.5 * len(mpp)
    np.testing.assert_array_equal(draws.mpp, np.round(draws.mpp, 4))
    assert (slides.overlaps(draws.slide, draws.x0, draws.y0, draws.mpp, 32) >= 0.2).all()


def test_a_slide_is_drawn_only_at_magnifications_that_it_is_fine_enough_for(index):
    mpp = np.array([0.25, 0.3, 0.7, 1.2])
    slides = fake_index(index, [disc(40, 40)] * 4, mpp=mpp)
    draws = sampler(slides, mpp=[0.3, 2.0], weight=[1.0], continuous=True).sample(0, np.arange(6000))
    assert (mpp[draws.slide] <= 1.05 * draws.mpp).all()
    assert draws.mpp[draws.slide == 2].min() < 0.72 and draws.mpp[draws.slide == 3].min() < 1.25
    for low, high, count in ((0.3, 0.66, 2), (0.7, 1.1, 3), (1.2, 2.0, 4)):
        inside = draws.slide[(draws.mpp > low) & (draws.mpp < high)]
        assert as_expected(inside, (np.arange(4) < count).astype(float))
    with pytest.raises(UserError, match=r"No slide is scanned finely enough for 0\.2 um"):
        sampler(slides, mpp=[0.2, 2.0], weight=[1.0], continuous=True)


@pytest.mark.parametrize(
    "more",
    [{"weight_by": "case"}, {"weight_by": "tissue", **LOG_UNIFORM}, {"weight_by": "case", "region": FOUR}],
    ids=["case", "continuous", "regions"],
)
def test_weighted_draws_do_not_depend_on_what_they_are_drawn_with(index, more):
    drawn = sampler(fake_index(index, GRIDS, case=CASES, weight=WEIGHT), **more)

    def rows(indices):
        draws = drawn.sample(5, np.array(indices))
        return list(zip(draws.slide.tolist(), draws.x0.tolist(), draws.y0.tolist(), draws.mpp.tolist(), strict=True))

    together = rows(range(500))
    assert rows(range(499, -1, -1)) == together[::-1]
    assert [row for i in range(0, 500, 25) for row in rows(range(i, i + 25))] == together
    assert [rows([i])[0] for i in (0, 99, 499)] == [together[i] for i in (0, 99, 499)]


def test_a_slide_of_weight_0_is_not_drawn_and_does_not_count_as_fine_enough(index):
    slides = fake_index(index, [disc(30, 30)] * 2, mpp=np.array([0.25, 0.5]), weight=np.array([0.0, 1.0]))
    assert set(sampler(slides).sample(0, np.arange(100)).slide.tolist()) == {1}
    with pytest.raises(UserError, match=r"finely enough for 0\.25 um"):
        sampler(slides, mpp=[0.25], weight=[1.0])


def test_who_asks_for_no_weights_draws_evenly_whatever_the_manifest_says(index):
    slides = fake_index(index, GRIDS, weight=WEIGHT)
    assert as_expected(sampler(slides, weight_by=None).sample(0, np.arange(4000)).slide, np.ones(8))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight_by": "area"}, "data.weight_by=area is not one of slide, case, tissue"),
        ({"mpp": [1.0, 0.5], "weight": [1.0], "continuous": True}, "must ascend"),
        ({"continuous": True}, "one weight to each interval"),
        ({"continuous": "yes"}, "must be true or false"),
    ],
)
def test_what_makes_no_sense_is_refused(index, change, says):
    with pytest.raises(UserError, match=says):
        sampler(index, **change)
