import hashlib
import os
import shutil
import signal

import numpy as np
import pytest

from pathssl.data.loader import Loader
from pathssl.data.patches import PatchReader
from pathssl.data.sampling import Sampler
from pathssl.slides.index import build_index
from pathssl.slides.slide import SlideError


def reader(index, seed=0, open_slides=2):
    sampler = Sampler(index, slides=np.arange(len(index)), mpp=[0.5, 1.0], weight=[1, 1], patch_px=48, min_tissue=0.4)
    return PatchReader(sampler, seed=seed, open_slides=open_slides)


def loader(index, workers, batch_size=8):
    return Loader(reader(index), batch_size=batch_size, workers=workers, prefetch=2)


def digest(batches):
    return [(batch.step, hashlib.sha256(batch.patches.pixels.tobytes()).hexdigest()) for batch in batches]


def test_batches_are_the_same_for_any_number_of_workers_and_any_start(index):
    base = digest(loader(index, 0).batches(0, 12))
    assert [step for step, _ in base] == list(range(12))
    assert digest(loader(index, 2).batches(0, 12)) == base
    assert digest(loader(index, 3).batches(5, 12)) == base[5:]


def test_pixels_are_those_of_the_slide_at_the_drawn_position(index):
    batch = next(loader(index, 0).batches(3, 4))
    draws = batch.patches.draws
    expected = reader(index).sampler.sample(0, np.arange(24, 32))
    assert np.array_equal(draws.x0, expected.x0) and np.array_equal(draws.slide, expected.slide)
    slide = index.open(int(draws.slide[5]))
    pixels = slide.read(int(draws.x0[5]), int(draws.y0[5]), float(draws.mpp[5]), 48)
    assert np.array_equal(batch.patches.pixels[5], pixels)


def test_no_more_slides_are_open_than_allowed(index):
    one = reader(index, open_slides=2)
    one.read(np.arange(40))
    assert len(one._open) == 2


@pytest.fixture
def damaged(cohort, tmp_path):
    """An index of which one slide was truncated after it was made."""
    for path in sorted((cohort / "slides").glob("*.tif")):
        shutil.copy(path, tmp_path / path.name)
    settings = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 32.0, "min_tissue": 0.4}
    index = build_index(
        tmp_path, cache=tmp_path / "i", manifest=None, reader="auto", **settings, workers=0, progress=False
    )
    victim = tmp_path / index.paths[0]
    victim.write_bytes(victim.read_bytes()[:-200_000])
    return index


def test_a_patch_that_cannot_be_decoded_is_replaced_and_recorded_deterministically(damaged):
    patches, again = reader(damaged).read(np.arange(60)), reader(damaged).read(np.arange(30, 60))
    assert patches.replaced and {slide for _, slide, _ in patches.replaced} == {damaged.paths[0]}
    assert np.array_equal(patches.pixels[30:], again.pixels)
    assert [r[:2] for r in patches.replaced if r[0] >= 30] == [r[:2] for r in again.replaced]
    untouched = np.setdiff1d(np.arange(60), [index for index, _, _ in patches.replaced])
    expected = reader(damaged).sampler.sample(0, np.arange(60))
    assert np.array_equal(patches.draws.x0[untouched], expected.x0[untouched])


def test_a_slide_that_vanished_stops_the_run_with_its_name(damaged, monkeypatch):
    monkeypatch.setattr("pathssl.data.patches._RETRY_S", (0.01,))
    for name in damaged.paths:
        (damaged.root / name).unlink()
    with pytest.raises(OSError, match=r"\.tif is not there"):
        reader(damaged).read(np.arange(4))


def test_when_no_slide_can_be_read_the_run_stops_with_the_reason(damaged):
    for name in damaged.paths:
        (damaged.root / name).write_bytes(b"II*\0" + b"\0" * 100)
    with pytest.raises(SlideError, match="could not be read in"):
        reader(damaged).read(np.arange(1))


def test_killed_workers_stop_the_run_with_a_sentence(index, monkeypatch):
    monkeypatch.setattr("pathssl.data.loader._POLL_S", 0.2)
    batches = loader(index, 2).batches(0, 1000)
    next(batches)
    import multiprocessing

    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="A worker that reads patches died"):
        for _ in batches:
            pass
    assert not multiprocessing.active_children()


def test_an_error_in_a_worker_comes_with_its_traceback(damaged):
    for name in damaged.paths:
        (damaged.root / name).write_bytes(b"II*\0" + b"\0" * 100)
    with pytest.raises(RuntimeError, match=r"step 0(.|\n)*SlideError"):
        next(loader(damaged, 1).batches(0, 1))
