"""The cache of slides by URL: bounded, shared by processes, and never a wrong patch, whoever makes room in it."""

import hashlib
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from golden_slides import noisy_tissue, write_pyramid
from unreliable import unreliable

from pathssl.slides.remote import cache as cache_module
from pathssl.slides.remote.cache import OPENING, SlideCache
from pathssl.slides.remote.mirror import Mirror
from pathssl.slides.remote.place import Place
from pathssl.slides.slide import open_slide

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four slides of about 600 KiB."""
    folder = tmp_path_factory.mktemp("slides")
    for k in range(4):
        write_pyramid(folder / f"{k}.tif", noisy_tissue(1200, 900, seed=k), compression="jpeg")
    return folder


@pytest.fixture
def server(folder):
    with unreliable(folder) as (url, handler):
        yield url, handler


def whole(slide) -> np.ndarray:
    return np.stack([slide.read(x, y, 0.25, 300) for x in (0, 450, 900) for y in (0, 300, 600)])


def taken(cache: SlideCache) -> int:
    return sum(512 * file.stat().st_blocks for file in cache.folder.rglob("*"))


def test_pixels_of_slides_used_long_ago_make_room_and_come_back(folder, server, tmp_path):
    url, handler = server
    cache = SlideCache(tmp_path / "mirrors", MIB * 3 // 2)
    for k in range(4):
        with closing(open_slide(Place(url, cache) / f"{k}.tif", None)) as slide:
            whole(slide)
    cache.make_room()
    assert 0.5 * cache.limit_bytes < taken(cache) <= cache.limit_bytes
    assert len(list(cache.folder.glob(f"*/{OPENING}"))) == 4  # all can be opened as before
    asked = len(handler.asked)
    for k in reversed(range(4)):
        slide = open_slide(Place(url, cache) / f"{k}.tif", None)
        assert len(handler.asked) == asked, "opening fetched something"
        np.testing.assert_array_equal(whole(slide), whole(open_slide(folder / f"{k}.tif", None)))
        assert k in (1, 2) or (len(handler.asked) == asked) == (k == 3), (
            "the last that was used is whole, the first is not"
        )
        asked = len(handler.asked)
        slide.close()


def test_a_slide_that_is_open_goes_on_after_its_pixels_were_taken(folder, server, tmp_path):
    url, _ = server
    cache = SlideCache(tmp_path / "mirrors", 1)
    with closing(open_slide(Place(url, cache) / "0.tif", None)) as slide:
        expected = whole(open_slide(folder / "0.tif", None))
        np.testing.assert_array_equal(whole(slide), expected)
        before = taken(cache)
        cache.make_room()
        assert taken(cache) < 0.7 * before
        np.testing.assert_array_equal(whole(slide), expected)
        mirror = slide._mirror
        layout = slide.structure.layout.levels[0]
        with mirror.holding(layout, 400, 300, 300, 300):  # as while a reader reads
            held = taken(cache)
            cache.make_room()
            assert taken(cache) == held
    cache.make_room()
    assert not list(cache.folder.glob("*/*.tif"))  # nobody has it open: all may go


def test_what_is_kept_whole_keeps_its_pixels_while_it_is_open(server, tmp_path):
    url, _ = server
    cache = SlideCache(tmp_path / "mirrors", 1)
    with closing(Mirror(Place(url, cache) / "0.tif")) as mirror:
        mirror.prepare()
        mirror.complete()
        with closing(Mirror(Place(url, cache) / "0.tif")) as other:
            other.prepare()
            before = taken(cache)
            cache.make_room()
            assert taken(cache) == before and other.opening() is None
    cache.make_room()
    assert taken(cache) < before / 2


@pytest.mark.slow
def test_a_disk_that_cannot_punch_holes_loses_whole_slides(folder, server, tmp_path, monkeypatch):
    url, _ = server
    cache = SlideCache(tmp_path / "mirrors", MIB * 3 // 2)
    monkeypatch.setattr(cache_module, "_punch", lambda *_: False)
    for k in range(4):
        with closing(open_slide(Place(url, cache) / f"{k}.tif", None)) as slide:
            np.testing.assert_array_equal(whole(slide), whole(open_slide(folder / f"{k}.tif", None)))
    cache.make_room()
    assert taken(cache) <= cache.limit_bytes
    for k in range(4):
        with closing(open_slide(Place(url, cache) / f"{k}.tif", None)) as slide:
            np.testing.assert_array_equal(whole(slide), whole(open_slide(folder / f"{k}.tif", None)))


MANY = """
import hashlib, sys
from pathlib import Path
import numpy as np
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.place import Place
from pathssl.slides.slide import open_slide
url, folder, seed, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
cache, rng, told, slides = SlideCache(folder, 2**19), np.random.default_rng(seed), hashlib.sha256(), {}
for _ in range(count):
    k = int(rng.integers(4))
    if k not in slides or rng.random() < 0.2:
        slides[k] = open_slide(Place(url, cache) / f"{k}.tif", None)
    told.update(slides[k].read(int(rng.integers(1150)), int(rng.integers(850)), float(rng.choice([0.25, 0.4, 1.0])), 120).tobytes())
print(told.hexdigest())
"""


@pytest.mark.slow
def test_processes_that_take_room_from_one_another_read_right_patches(folder, server, tmp_path):
    """Three at a time in a cache that holds a fifth of the slides; and a fourth that is killed again and again."""
    url, _ = server
    mirrors, count = tmp_path / "mirrors", 500

    def start(seed: int) -> subprocess.Popen:
        command = [sys.executable, "-c", MANY, url, str(mirrors), str(seed), str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    running, killed = [start(seed) for seed in range(3)], 0
    while any(process.poll() is None for process in running):
        victim = start(99)
        try:
            victim.wait(1.5 + 0.37 * killed)
        except subprocess.TimeoutExpired:
            victim.kill()
        killed += victim.wait() != 0
    assert killed
    for seed, process in enumerate(running):
        rng, expected = np.random.default_rng(seed), hashlib.sha256()
        slides = [open_slide(folder / f"{k}.tif", None) for k in range(4)]
        seen = set()
        for _ in range(count):
            k = int(rng.integers(4))
            if k in seen:
                rng.random()
            seen.add(k)
            x, y, mpp = int(rng.integers(1150)), int(rng.integers(850)), float(rng.choice([0.25, 0.4, 1.0]))
            expected.update(slides[k].read(x, y, mpp, 120).tobytes())
        assert process.communicate()[0].strip() == expected.hexdigest()
