import pickle
import subprocess
import sys

import numpy as np
import pytest
from golden_slides import build

from pathssl.errors import UserError
from pathssl.slides.slide_index import SlideIndex


def test_overlaps_of_patches_are_the_tissue_under_their_footprints(cohort, tmp_path):
    index = build(cohort(2), tmp_path / "cache")

    def overlap(k: int, x0: float, y0: float, mpp: float, size: int) -> float:
        return index.overlaps(np.array([k]), np.array([x0]), np.array([y0]), mpp, size)[0]

    assert overlap(0, 450 - 112, 350 - 112, 0.5, 224) > 0.99
    assert overlap(0, 450 - 56, 350 - 56, 1.0, 56) > 0.99
    assert overlap(0, -500, -500, 0.5, 224) == 0
    quarter_of_the_disc = np.pi * 280**2 / 4
    assert overlap(0, 450, 350, 0.5, 2240) == pytest.approx(quarter_of_the_disc / 2240**2, rel=0.1)
    k, x0, y0 = np.array([0, 1, 0]), np.array([0, 100, 338]), np.array([0, 50, 238])
    mpp = np.array([0.75, 0.75, 0.5])
    got = index.overlaps(k, x0, y0, mpp, 224)
    assert got.tolist() == [overlap(*each, 224) for each in zip(k, x0, y0, mpp, strict=True)]
    for fraction, slide, x, y, m in zip(got, k, x0, y0, mpp, strict=True):
        mask = index.tissue(slide).repeat(64, 0).repeat(64, 1)  # level-0 pixels, 0.5 um each
        assert fraction == pytest.approx(mask[y : y + int(448 * m), x : x + int(448 * m)].sum() / 255 / (448 * m) ** 2)


def test_cells_and_levels_of_many_slides_at_once_are_those_of_each(cohort, tmp_path):
    index = build(cohort(3), tmp_path / "cache")
    k = np.array([2, 0, 2, 1])
    column, row = index.cell(k, np.array([0, 0.5, 1 - 2**-32, 0.25]))
    for slide, nth, x, y in zip(k, (0.0, 0.5, 1.0, 0.25), column, row, strict=True):
        cells = index.cells(slide)
        expected = cells[min(int(nth * len(cells)), len(cells) - 1)]
        assert (y, x) == divmod(expected, index.tissue(slide).shape[1])
    slides = [index.open(slide) for slide in range(3)]
    for mpp in (0.48, 0.5, 0.52500001, 1.0, 1.9, 1.9999, 2.0, 50.0):
        level, ratio = index.source(k, np.full(4, mpp))
        assert list(zip(level, ratio, strict=True)) == [slides[slide]._source(mpp) for slide in k]


def test_a_loaded_index_and_its_copy_in_a_worker_equal_the_built_one(cohort, tmp_path):
    built = build(cohort(2), tmp_path / "cache")
    content = pickle.dumps(built)
    assert len(content) < 1000
    for other in (SlideIndex.load(built.folder), pickle.loads(content)):
        assert (other.paths, other.case, other.root, len(other)) == (built.paths, built.case, built.root, 2)
        np.testing.assert_array_equal(other.cells(1), built.cells(1))
    with pytest.raises(UserError, match="no index of slides"):
        SlideIndex.load(tmp_path)


def test_an_index_opens_without_what_each_worker_would_have_to_import_for_it(cohort, tmp_path):
    index = build(cohort(1), tmp_path / "cache")
    code = (
        "import sys; from pathssl.slides.slide_index import SlideIndex; index = SlideIndex.load(sys.argv[1]); "
        "print(len(index), index.weight, {'pandas', 'pyarrow.dataset', 'torch'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(index.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "1 [1.] set()"
