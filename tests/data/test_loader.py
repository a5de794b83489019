import hashlib
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from pathssl.data import crew
from pathssl.data.loader import Loader
from pathssl.data.patches import PatchReader, Unreachable
from pathssl.data.sampling import Region, Sampler
from pathssl.errors import UserError
from pathssl.slides.index import build_index
from pathssl.slides.slide import SlideError

SINGLE = Region(patches=1, width=1.0, chunk_batches=1)
FOUR = Region(patches=4, width=2.0, chunk_batches=8)
BATCH = 8


def reader(index, region=SINGLE, seed=0, open_slides=2, batch_size=BATCH):
    sampler = Sampler(
        index,
        slides=np.arange(len(index)),
        mpp=[0.5, 1.0],
        weight=[1, 1],
        patch_px=48,
        min_tissue=0.4,
        batch_size=batch_size,
        region=region,
    )
    return PatchReader(sampler, seed=seed, open_slides=open_slides)


def loader(index, workers, region=SINGLE, **more):
    return Loader(reader(index, region), workers=workers, prefetch=2, **more)


def digest(batches):
    return [(batch.step, hashlib.sha256(batch.patches.pixels.tobytes()).hexdigest()) for batch in batches]


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


def _workers():
    """The process numbers of this process's workers."""
    listed = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout
    return [int(pid) for pid in listed.split()]


@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
def test_killed_workers_are_replaced_and_change_nothing(index, region, caplog):
    base = digest(loader(index, 0, region).batches(0, 40))
    before = set(_workers())
    ours = []
    for batch in loader(index, 2, region).batches(0, 40):
        ours += digest([batch])
        if batch.step in (3, 11, 30):
            os.kill((set(_workers()) - before).pop(), signal.SIGKILL)
    assert ours == base
    assert "another one takes over" in caplog.text
    assert set(_workers()) == before


DEADLY = """
import os, signal
from pathssl.data import crew, patches
real = patches.PatchReader._pixels
def pixels(self, k, x0, y0, mpp, out):
    if {condition}:
        os.kill(os.getpid(), signal.{signal})
    return real(self, k, x0, y0, mpp, out)
def work(connection):
    patches.PatchReader._pixels = pixels
    crew.work(connection)
"""


def _deadly(tmp_path, monkeypatch, condition, by="SIGSEGV"):
    (tmp_path / "deadly.py").write_text(DEADLY.format(condition=condition, signal=by))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(crew, "WORK", "deadly:work")


@pytest.mark.parametrize("region", [SINGLE, FOUR], ids=["single", "regions"])
def test_a_patch_that_kills_its_reader_is_replaced_like_a_damaged_one(index, region, tmp_path, monkeypatch):
    victim = reader(index, region).sampler.sample(0, np.arange(16 * BATCH))
    k, x0 = int(victim.slide[19]), int(victim.x0[19])
    _deadly(tmp_path, monkeypatch, f"k == {k} and {x0} in x0")
    batches = [(b.patches.pixels.copy(), b.patches.replaced) for b in loader(index, 2, region).batches(0, 16)]
    faults = [fault for _, replaced in batches for fault in replaced]
    assert 19 in {index for index, _, _ in faults} and "signal 11" in faults[0][2]
    expected = reader(index, region)
    expected.broken = {(index, 0): "" for index, _, _ in faults}
    assert np.array_equal(
        np.concatenate([pixels for pixels, _ in batches]), expected.read(np.arange(16 * BATCH)).pixels
    )


def test_when_every_worker_dies_the_run_stops_with_a_sentence(index, tmp_path, monkeypatch):
    _deadly(tmp_path, monkeypatch, "True", by="SIGKILL")
    monkeypatch.setattr(crew, "_DEATHS_OF_A_UNIT", 3)
    before = set(_workers())
    sentence = r"step 1 died 3 times, the last of signal 9 \(killed, mostly for want of memory\)\. Lower loader.workers"
    with pytest.raises(RuntimeError, match=sentence):
        next(loader(index, 1).batches(0, 2))
    assert set(_workers()) == before


@pytest.mark.slow
def test_many_patches_that_kill_their_reader_do_not_stop_the_run(index, tmp_path, monkeypatch):
    draws = reader(index).sampler.sample(0, np.arange(BATCH))
    victims = [(int(draws.slide[i]), int(draws.x0[i])) for i in range(4)]
    _deadly(tmp_path, monkeypatch, f"(k, x0[0]) in {victims}")
    monkeypatch.setattr(crew, "_DEATHS_OF_A_UNIT", 3)  # of one patch alone they are two
    (batch,) = loader(index, 1).batches(0, 1)
    assert [(i, "signal 11" in reason) for i, _, reason in batch.patches.replaced] == [(i, True) for i in range(4)]


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_never_held_against_its_patch(index, tmp_path, monkeypatch):
    base = digest(loader(index, 0).batches(0, 1))
    (tmp_path / "deaths").mkdir()
    condition = "index_of(self) == 3 and deaths() < 3"
    code = DEADLY.format(condition=condition, signal="SIGKILL") + (
        "def index_of(reader):\n    return int(reader.mark[0])\n"
        "def deaths():\n"
        f"    folder = {str(tmp_path / 'deaths')!r}\n"
        "    count = len(os.listdir(folder))\n"
        "    open(f'{folder}/{count}', 'w').close()\n"
        "    return count\n"
    )
    (tmp_path / "deadly.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(crew, "WORK", "deadly:work")
    assert digest(loader(index, 1).batches(0, 1)) == base
    assert len(list((tmp_path / "deaths").iterdir())) == 4


@pytest.mark.slow
def test_a_decoder_that_hangs_is_ended(index, tmp_path, monkeypatch):
    base = digest(loader(index, 0).batches(0, 1))
    once = tmp_path / "hung"
    code = DEADLY.format(condition=f"not os.path.exists({str(once)!r})", signal="SIGKILL")
    code = code.replace(
        "os.kill(os.getpid(), signal.SIGKILL)", f"(open({str(once)!r}, 'w').close(), __import__('time').sleep(60))"
    )
    (tmp_path / "deadly.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(crew, "WORK", "deadly:work")
    monkeypatch.setattr(crew, "_LIMIT_S", 4.0)
    assert digest(loader(index, 1).batches(0, 1)) == base


def test_far_more_may_be_prefetched_than_a_pipe_holds_of_small_units(index):
    """A slot is one message a worker: a thousand units of a few patches each would fill the pipes of both sides."""
    one = Loader(reader(index, batch_size=1024), workers=1, prefetch=20)
    batches = one.batches(0, 21)
    assert len(next(batches).patches.pixels) == 1024
    batches.close()
    for workers in (1, 2, 5):
        several = Loader(reader(index, batch_size=1024), workers=workers, prefetch=4)
        assert len(several._units(0, range(1))) <= workers


def test_an_unexpected_error_in_a_worker_comes_with_its_traceback(index, tmp_path, monkeypatch):
    _deadly(tmp_path, monkeypatch, "1 / 0")
    with pytest.raises(RuntimeError, match=r"could not read patches(.|\n)*Traceback(.|\n)*ZeroDivisionError"):
        next(loader(index, 1).batches(0, 1))


def test_workers_end_with_a_killed_parent(index, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import pickle, sys, time\n"
        "from pathssl.data.loader import Loader\n"
        "reader = pickle.load(open(sys.argv[1], 'rb'))\n"
        "batches = Loader(reader, workers=2, prefetch=2).batches(0, 1000)\n"
        "next(batches); print('ready', flush=True); time.sleep(60)\n"
    )
    import pickle
    import sys

    (tmp_path / "reader.pickle").write_bytes(pickle.dumps(reader(index)))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "reader.pickle")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.readline() == "ready\n"
    children = subprocess.run(["pgrep", "-P", str(parent.pid)], capture_output=True, text=True).stdout.split()
    assert len(children) == 2
    parent.kill()
    parent.wait()
    for _ in range(100):
        alive = [pid for pid in children if os.path.exists(f"/proc/{pid}") and "Z" not in _state(pid)]
        if not alive:
            break
        time.sleep(0.1)
    assert not alive


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"
