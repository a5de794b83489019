"""The slides of a run: limits, splits and weights act on what is trained on, and on nothing else."""

import shutil

import numpy as np
import pytest

from pathssl import sources
from pathssl.cli import compose
from pathssl.errors import UserError


@pytest.fixture
def data(small, cohort):
    """Of the small cohort: four slides of four cases, one of them held out."""
    slides = [f"data.path={cohort}", f"data.manifest={cohort / 'manifest.csv'}", "data.held_out.fraction=0.25"]
    return lambda *more: sources.Data(compose([*small, *slides, *more]))


@pytest.fixture
def manifest(cohort, tmp_path):
    """A function that gives the overrides for a copy of the cohort with more columns in its manifest."""
    shutil.copytree(cohort / "slides", tmp_path / "mine" / "slides")
    lines = (cohort / "manifest.csv").read_text().splitlines()

    def write(columns: str, *values: str) -> list[str]:
        rows = [",".join(pair) for pair in zip(lines, [columns, *values], strict=True)]
        (tmp_path / "mine" / "manifest.csv").write_text("\n".join(rows) + "\n")
        return [f"data.path={tmp_path / 'mine'}", f"data.manifest={tmp_path / 'mine' / 'manifest.csv'}"]

    return write


def test_a_limit_of_slides_is_nested_leaves_the_held_out_ones_alone_and_is_the_same_for_all_seeds(data):
    whole, two, one = data(), data("data.limit.slides=2"), data("data.limit.slides=0.3")
    names = [set(d.training_slides.tolist()) for d in (one, two, whole)]
    assert [len(n) for n in names] == [1, 2, 3] and names[0] < names[1] < names[2]
    other = data("data.limit.slides=2", "seed=5")
    assert other.training_slides.tolist() == two.training_slides.tolist()
    assert other.held_out_slides.tolist() == whole.held_out_slides.tolist()
    assert np.array_equal(one.held_out_patches, whole.held_out_patches)
    assert data("data.limit.slides=1", "data.limit.seed=${seed}", "seed=2").training_slides.tolist() != [*names[0]]
    assert set(two.sampler.sample(0, np.arange(100)).slide.tolist()) == names[1]
    assert two.describe()["training_slides"] == 2 and two.fingerprint == whole.fingerprint


def test_all_arms_of_a_study_of_magnifications_may_have_the_same_slides(data):
    # The cohort's slides are at 0.5 um per pixel.
    assert len(data("magnification=10x").training_slides) > 0
    with pytest.raises(UserError, match=r"data\.usable_at_mpp=0.25: no slide is scanned finely enough"):
        data("magnification=10x", "data.usable_at_mpp=0.25")
    same = data("magnification=10x", "data.usable_at_mpp=0.5").training_slides
    assert same.tolist() == data("magnification=20x").training_slides.tolist()
    with pytest.raises(UserError, match=r"data\.usable_at_mpp=fine: give um per pixel"):
        data("data.usable_at_mpp=fine")


def test_distinct_patches_are_limited_through_the_config_and_not_drawn_from_regions(data):
    draws = data("data.limit.patches=5", "data.limit.per=total").sampler.sample(0, np.arange(200))
    assert len(set(zip(draws.slide.tolist(), draws.x0.tolist(), draws.y0.tolist(), strict=True))) == 5
    with pytest.raises(UserError, match=r"data\.limit\.patches=5 with region\.patches=4.*region=single"):
        data("data.limit.patches=5", "region=four")


def test_a_manifest_s_splits_and_weights_decide(data, manifest):
    plain = data(*manifest("split,weight", ",", ",", ",", ","))
    assert plain.fingerprint == data().fingerprint
    found = data(*manifest("split,weight", "held_out,", "train,3", ",1", "ignore,"))
    assert len(found.index) == 3 and found.held_out_slides.tolist() == [0]
    assert found.training_slides.tolist() == [1, 2]
    drawn = np.bincount(found.sampler.sample(0, np.arange(2000)).slide, minlength=3)
    assert drawn[0] == 0 and 2.6 < drawn[1] / drawn[2] < 3.4
    assert found.fingerprint != plain.fingerprint


def test_thresholds_and_filters_are_factors_that_are_typed(data):
    strict = data("data.foreground.min_tissue=0.9", "patch_filter=hsv", "patch_filter.least=0.9")
    draws = strict.sampler.sample(0, np.arange(100))
    assert (strict.index.overlaps(draws.slide, draws.x0, draws.y0, draws.mpp, 40) >= 0.9).all()
    read = strict.reader(0).read(np.arange(20))
    assert all(strict.accepts.share(pixels) >= 0.9 for pixels in read.pixels) and read.draws.redraw.any()


@pytest.mark.parametrize("gib", ["lots", "-1", "0", "null", ".inf", "true"])
def test_the_slide_cache_is_given_as_a_number_of_gib(gib):
    with pytest.raises(UserError, match=r"^slide_cache\.gib=\S+ must be a number of GiB, above 0[^\n]*$"):
        sources.mirrors(compose([f"slide_cache.gib={gib}"]))
    assert sources.mirrors(compose(["slide_cache.gib=0.5"])).limit_bytes == 2**29
