import os
import shutil
import time

import numpy as np
import pytest
from small_loader import BATCH, FOUR, SINGLE, digest, loader, reader

from pathssl.data.loader import Loader
from pathssl.data.patches import Unreachable
from pathssl.errors import UserError
from pathssl.slides.index import build_index
from pathssl.slides.slide import SlideError


@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
def test_batches_are_the_same_for_any_number_of_workers_and_any_start(index, region):
    base = digest(loader(index, 0, region).batches(0, 20))
    assert [step for step, _ in base] == list(range(20)) and len({text for _, text in base}) == 20
    assert digest(loader(index, 2, region).batches(0, 20)) == base
    assert digest(loader(index, 3, region).batches(5, 20)) == base[5:]
    assert digest(loader(index, 1, region).batches(7, 11)) == base[7:11]


@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_have_the_batch_of_one_process(index, region, world_size):
    whole = [batch.patches.pixels.copy() for batch in loader(index, 0, region).batches(0, 9)]
    shares = [
        [b.patches.pixels.copy() for b in loader(index, r % 2, region, rank=r, world_size=world_size).batches(0, 9)]
        for r in range(world_size)
    ]
    for step, pixels in enumerate(whole):
        assert np.array_equal(np.concatenate([share[step] for share in shares]), pixels)


def test_a_batch_that_ranks_cannot_share_equally_is_refused(index):
    with pytest.raises(UserError, match="A batch of 8 patches cannot be shared equally by 3"):
        loader(index, 0, rank=0, world_size=3)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
def test_pixels_are_those_of_the_slide_at_the_drawn_position(index, region, workers):
    batches = loader(index, workers, region).batches(3, 4)
    batch = next(batches)
    draws, pixels = batch.patches.draws, batch.patches.pixels.copy()
    batches.close()
    expected = reader(index, region).sampler.sample(0, np.arange(24, 32))
    for name in ("slide", "x0", "y0", "mpp", "views_seed", "region"):
        ours, theirs = getattr(draws, name), getattr(expected, name)
        assert np.array_equal(ours, theirs) and ours.dtype == theirs.dtype
    for row in range(BATCH):
        slide = index.open(int(draws.slide[row]))
        there = slide.read(int(draws.x0[row]), int(draws.y0[row]), float(draws.mpp[row]), 48)
        assert np.array_equal(pixels[row], there)


def test_a_region_is_read_once(index, monkeypatch):
    one, calls = reader(index, FOUR), []
    from pathssl.slides.slide import Slide

    real = Slide.read_patches
    monkeypatch.setattr(Slide, "read_patches", lambda s, x0, *more: calls.append(len(x0)) or real(s, x0, *more))
    one.read(np.arange(8 * BATCH))
    assert calls == [4] * (2 * BATCH)


def test_no_more_slides_are_open_than_allowed(index):
    one = reader(index, open_slides=2)
    one.read(np.arange(40))
    assert len(one._open) == 2


@pytest.fixture
def damaged(cohort, tmp_path):
    """An index of which one slide was damaged in one place after it was made."""
    for path in sorted((cohort / "slides").glob("*.tif")):
        shutil.copy(path, tmp_path / path.name)
    settings = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 32.0, "min_tissue": 0.4}
    index = build_index(
        tmp_path, cache=tmp_path / "i", manifest=None, reader="auto", **settings, workers=0, progress=False
    )
    victim = tmp_path / index.paths[0]
    facts = victim.stat()
    content = bytearray(victim.read_bytes())
    content[len(content) // 3 : len(content) // 2] = b"\0" * (len(content) // 2 - len(content) // 3)
    victim.write_bytes(content)
    os.utime(victim, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return index


@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
def test_which_patches_are_replaced_does_not_depend_on_what_is_read_together(damaged, region):
    patches = reader(damaged, region).read(np.arange(128))
    assert patches.replaced and {slide for _, slide, _ in patches.replaced} == {damaged.paths[0]}
    assert any(patches.draws.slide == 0), "the rest of the slide is used"
    again = reader(damaged, region).read(np.arange(40, 128))
    assert np.array_equal(patches.pixels[40:], again.pixels)
    assert [fault[:2] for fault in patches.replaced if fault[0] >= 40] == [fault[:2] for fault in again.replaced]
    untouched = np.setdiff1d(np.arange(128), [index for index, _, _ in patches.replaced])
    expected = reader(damaged, region).sampler.sample(0, np.arange(128))
    assert np.array_equal(patches.draws.x0[untouched], expected.x0[untouched])


def test_replaced_patches_come_with_the_step_that_they_belong_to(damaged):
    together = reader(damaged, FOUR).read(np.arange(16 * BATCH)).replaced
    for workers in (0, 2, 3):
        by_step = [(b.step, f) for b in loader(damaged, workers, FOUR).batches(0, 16) for f in b.patches.replaced]
        assert by_step == [(fault[0] // BATCH, fault) for fault in together]


@pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=pytest.mark.slow)]
)  # a worker waits 10 s between its attempts
def test_a_slide_that_vanished_stops_the_run_with_a_sentence(damaged, monkeypatch, workers):
    monkeypatch.setattr("pathssl.data.patches._RETRY_S", (0.01,))
    for name in damaged.paths:
        (damaged.root / name).unlink()
    with pytest.raises(Unreachable, match=r"\.tif cannot be read now(.|\n)*No such file(.|\n)*repeat the command"):
        next(loader(damaged, workers).batches(0, 4))


def test_a_slide_that_comes_back_costs_nothing_but_time(damaged, monkeypatch, caplog):
    expected = digest(loader(damaged, 0).batches(0, 4))
    names = [damaged.root / name for name in damaged.paths]
    for path in names:
        path.rename(path.with_suffix(".away"))

    def back(_):
        for path in names:
            path.with_suffix(".away").rename(path)

    monkeypatch.setattr(time, "sleep", back)
    assert digest(loader(damaged, 0).batches(0, 4)) == expected
    assert "trying again" in caplog.text


def test_when_no_slide_can_be_read_the_run_stops_with_the_reason(damaged):
    for name in damaged.paths:
        (damaged.root / name).write_bytes(b"II*\0" + b"\0" * 100)
    for workers in (0, 1):
        with pytest.raises(SlideError, match="could not be read in 21 draws"):
            next(loader(damaged, workers).batches(0, 1))


def test_far_more_may_be_prefetched_than_a_pipe_holds_of_small_units(index):
    """A slot is one message a worker: a thousand units of a few patches each would fill the pipes of both sides."""
    one = Loader(reader(index, batch_size=1024), workers=1, prefetch=20)
    batches = one.batches(0, 21)
    assert len(next(batches).patches.pixels) == 1024
    batches.close()
    for workers in (1, 2, 5):
        several = Loader(reader(index, batch_size=1024), workers=workers, prefetch=4)
        assert len(several._units(0, range(1))) <= workers
