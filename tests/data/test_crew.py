"""Workers that die: each is replaced, and the batches stay what they were."""

import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_loader import BATCH, FOUR, SINGLE, digest, loader, reader

from pathssl.data import crew

REGIONS = [pytest.param(SINGLE, id="single"), pytest.param(FOUR, id="regions", marks=pytest.mark.slow)]


def _workers():
    """The process numbers of this process's workers."""
    listed = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout
    return [int(pid) for pid in listed.split()]


@pytest.mark.parametrize("region", REGIONS)
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


@pytest.mark.parametrize("region", REGIONS)
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
