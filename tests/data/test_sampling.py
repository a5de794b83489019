import numpy as np
import pytest
from scipy import stats

from pathssl.data.sampling import Sampler
from pathssl.errors import UserError

FIELDS = ("slide", "x0", "y0", "mpp", "views_seed")


def sampler(index, **changes):
    settings = {
        "slides": np.arange(len(index)),
        "mpp": [0.5, 1.0],
        "weight": [1.0, 3.0],
        "patch_px": 64,
        "min_tissue": 0.4,
    }
    return Sampler(index, **(settings | changes))


def rows(draws):
    return list(zip(*(getattr(draws, name).tolist() for name in FIELDS), strict=True))


def test_the_ith_patch_is_the_same_alone_in_a_batch_and_in_any_order(index):
    together = rows(sampler(index).sample(7, np.arange(100)))
    assert together == rows(sampler(index).sample(7, np.arange(100)[::-1]))[::-1]
    assert together[41] == rows(sampler(index).sample(7, np.array([41])))[0]


def test_other_seeds_and_redraws_give_other_patches(index):
    base = rows(sampler(index).sample(0, np.arange(50)))
    assert not set(base) & set(rows(sampler(index).sample(1, np.arange(50))))
    assert not set(base) & set(rows(sampler(index).sample(0, np.arange(50), redraw=1)))


def test_every_patch_has_enough_tissue_and_lies_inside_its_slide(index):
    draws = sampler(index).sample(0, np.arange(400))
    for k, x0, y0, mpp, _ in rows(draws):
        assert index.overlap(k, x0, y0, mpp, 64) >= 0.4
        side = 64 * mpp / index.mpp[k]
        assert 0 <= x0 <= index.width[k] - side and 0 <= y0 <= index.height[k] - side


def test_magnifications_come_by_weight_and_slides_alike(index):
    draws = sampler(index).sample(0, np.arange(4000))
    assert stats.binomtest(int((draws.mpp == 1.0).sum()), 4000, 0.75).pvalue > 1e-3
    assert stats.chisquare(np.bincount(draws.slide, minlength=len(index))).pvalue > 1e-3


def test_only_the_slides_given_are_drawn_from(index):
    assert set(sampler(index, slides=np.array([1, 3])).sample(0, np.arange(200)).slide.tolist()) == {1, 3}


def test_a_magnification_finer_than_every_slide_is_refused(index):
    with pytest.raises(UserError, match=r"No slide is scanned finely enough for 0\.25"):
        sampler(index, mpp=[0.25], weight=[1.0])


def test_patches_larger_than_the_tissue_end_in_a_sentence_not_in_a_loop(index):
    with pytest.raises(UserError, match="No position with 100%"):
        sampler(index, mpp=[8.0], weight=[1.0], min_tissue=1.0).sample(0, np.arange(1))


@pytest.mark.parametrize(
    "change", [{"weight": [1.0]}, {"weight": [0.0, 0.0]}, {"mpp": [0.5, -1.0]}, {"mpp": [], "weight": []}]
)
def test_weights_that_make_no_sense_are_refused(index, change):
    with pytest.raises(UserError, match="magnification has mpp="):
        sampler(index, **change)
