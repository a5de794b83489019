import copy
import time

import numpy as np
import pytest

from pathssl.data.coverage import Coverage
from pathssl.data.sampling import Region, Sampler


def sampler(index, mpp=(0.5, 1.0), patch_px=48):
    return Sampler(
        index,
        slides=np.arange(len(index)),
        mpp=list(mpp),
        weight=[1.0] * len(mpp),
        patch_px=patch_px,
        min_tissue=0.4,
        batch_size=8,
        region=Region(patches=1, width=1.0, chunk_batches=1),
    )


def test_every_patch_counts_once_and_areas_follow_from_the_magnification(index):
    one = sampler(index)
    coverage, draws = Coverage(one), one.sample(0, np.arange(200))
    for start in range(0, 200, 40):
        coverage.add(1, one.sample(0, np.arange(start, start + 40)), [])
    table = coverage.table()
    fine, coarse = table["magnifications"]
    assert [row["mpp"] for row in table["magnifications"]] == [0.5, 1.0]
    assert fine["patches"] == int((draws.mpp == 0.5).sum()) and coarse["patches"] == 200 - fine["patches"]
    assert fine["read_mm2"] == pytest.approx(fine["patches"] * 0.024**2)
    assert coarse["read_mm2"] == pytest.approx(coarse["patches"] * 0.048**2)
    total = table["total"]
    assert total["patches"] == 200 and total["read_mm2"] == pytest.approx(fine["read_mm2"] + coarse["read_mm2"])
    assert total["times_over"] == pytest.approx(total["read_mm2"] / index.tissue_mm2.sum())


def test_only_slides_that_gave_a_patch_are_counted_with_their_cases_sites_and_tissue(index):
    one = sampler(index)
    coverage, draws = Coverage(one), one.sample(0, np.arange(200))
    on_two = np.flatnonzero(np.isin(draws.slide, [1, 2]))
    coverage.add(1, one.sample(0, on_two), [])
    total = coverage.table()["total"]
    assert (total["slides"], total["usable_slides"]) == (2, len(index))
    assert total["cases"] == len({index.case[1], index.case[2]})
    assert total["sites"] == len({index.site[1], index.site[2]})
    assert total["tissue_mm2"] == pytest.approx(index.tissue_mm2[[1, 2]].sum())


def test_before_the_first_patch_everything_is_nothing(index):
    total = Coverage(sampler(index)).table()["total"]
    assert (total["patches"], total["slides"], total["read_mm2"], total["times_over"]) == (0, 0, 0.0, None)


def test_magnifications_in_any_order_and_given_twice_are_told_apart_by_their_value(index):
    one = sampler(index, mpp=(1.0, 0.5, 1.0))
    coverage = Coverage(one)
    coverage.add(1, one.sample(0, np.arange(90)), [])
    assert [row["mpp"] for row in coverage.table()["magnifications"]] == [0.5, 1.0]
    assert coverage.table()["magnifications"][1]["patches"] > coverage.table()["magnifications"][0]["patches"]


def test_a_slide_that_fails_is_new_once_and_its_draws_are_tallied(index):
    one = sampler(index)
    coverage, draws = Coverage(one), one.sample(0, np.arange(8))
    faults = [(1, "a.tif", "tile 3"), (1, "b.tif", "tile 9"), (5, "a.tif", "tile 4")]
    assert coverage.add(1, draws, faults) == [("a.tif", "tile 3"), ("b.tif", "tile 9")]
    assert coverage.add(1, draws, [(9, "b.tif", "tile 1"), (9, "b.tif", "tile 1")]) == []
    assert coverage.table()["replaced"] == [
        {"slide": "b.tif", "draws": 3, "reason": "tile 9"},
        {"slide": "a.tif", "draws": 2, "reason": "tile 3"},
    ]


def test_what_is_restored_goes_on_as_if_nothing_had_been(index):
    one = sampler(index)
    whole, first = Coverage(one), Coverage(one)
    for coverage in (whole, first):
        coverage.add(1, one.sample(0, np.arange(40)), [(3, "a.tif", "x")])
    second = Coverage(one)
    second.restore(copy.deepcopy(first.state()))
    for coverage in (whole, second):
        assert coverage.add(1, one.sample(0, np.arange(40, 80)), [(50, "a.tif", "y")]) == []
    assert second.table() == whole.table()
    assert first.table()["total"]["patches"] == 40


def test_processes_that_share_the_batches_count_what_one_counts(index):
    one = sampler(index)
    whole, shares = Coverage(one), [Coverage(one), Coverage(one)]
    for step in range(1, 4):
        indices = np.arange(step * 8, step * 8 + 8)
        whole.add(step, one.sample(0, indices), [(1, "a.tif", "x"), (5, "b.tif", "y")])
        shares[0].add(step, one.sample(0, indices[:4]), [(1, "a.tif", "x")])
        shares[1].add(step, one.sample(0, indices[4:]), [(5, "b.tif", "y")])
    merged = Coverage.merged([share.state() for share in shares])
    assert whole.table(merged) == whole.table()


def test_the_digest_knows_every_patch_and_its_step_but_not_the_order_within(index):
    one = sampler(index)

    def digest(*batches):
        coverage = Coverage(one)
        for step, indices in batches:
            coverage.add(step, one.sample(0, np.array(indices)), [])
        return coverage.digest

    known = digest((1, [0, 1, 2]), (2, [3, 4, 5]))
    assert known == digest((1, [2, 1, 0]), (2, [3, 4, 5]))
    assert known != digest((1, [0, 1, 2]), (2, [3, 4, 6]))
    assert known != digest((1, [0, 1, 3]), (2, [2, 4, 5]))
    coverage, moved = Coverage(one), one.sample(0, np.arange(3))
    moved.x0[1] += 1
    coverage.add(1, moved, [])
    assert coverage.digest != digest((1, [0, 1, 2]))


def test_a_batch_is_counted_in_a_fraction_of_a_millisecond(index):
    one = sampler(index)
    coverage, draws = Coverage(one), one.sample(0, np.arange(4096))
    start = time.perf_counter()
    for _ in range(20):
        coverage.add(1, draws, [])
    assert (time.perf_counter() - start) / 20 < 0.01  # some 0.2 ms here; a step of 4,096 patches takes seconds
