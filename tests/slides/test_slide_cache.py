"""The cache of slides by URL: bounded, shared by processes, and never a wrong patch, whoever makes room in it."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from golden_slides import build, noisy_tissue, write_pyramid
from unreliable import unreliable

from pathssl.slides.remote import blocks
from pathssl.slides.remote import cache as cache_module
from pathssl.slides.remote import mirror as mirror_module
from pathssl.slides.remote.ahead import Wanted, bring
from pathssl.slides.remote.blocks import BlockFile
from pathssl.slides.remote.cache import OPENING, SlideCache
from pathssl.slides.remote.mirror import Mirror
from pathssl.slides.remote.place import Place
from pathssl.slides.slide import open_slide
from pathssl.slides.structure import Structure

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


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """A folder with a slide without compression: no decoder notices that some of its bytes are not there."""
    folder = tmp_path_factory.mktemp("raw")
    write_pyramid(folder / "raw.tif", noisy_tissue(1200, 900, seed=1), compression=None)
    return folder


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


def wanted(place: Place, structure: Structure) -> Wanted:
    """All of the finest level."""
    slide = Wanted(place, structure.file_bytes, structure.modified_ns, structure.layout)
    slide.add(0, 0, 0, 1200, 900)
    return slide


def test_what_is_brought_while_pixels_are_taken_is_there(raw, tmp_path, monkeypatch):
    """The taker has written its record, and not yet taken the bytes."""
    with unreliable(raw) as (url, _):
        place = Place(url, SlideCache(tmp_path / "mirrors", 2**30)) / "raw.tif"
        with closing(open_slide(place, None)) as slide:
            expected, structure = whole(slide), slide.structure
        (folder,) = (path for path in place.cache.folder.iterdir() if path.is_dir())
        brings = threading.Thread(target=lambda: bring([wanted(place, structure)]))

        def fsync(descriptor: int) -> None:
            os.fsync(descriptor)
            brings.start()
            brings.join(0.3)  # as long as pixels are taken it has to wait

        monkeypatch.setattr(cache_module, "os", SimpleNamespace(**{**vars(os), "fsync": fsync}))
        assert cache_module._take_pixels(folder) > 0
        brings.join()
        with closing(open_slide(place, None, structure=structure)) as slide:
            np.testing.assert_array_equal(whole(slide), expected)


@pytest.mark.parametrize("way", ["bring", "open", "damage"])
def test_pixels_are_not_taken_while_blocks_of_another_start_are_looked_at(raw, tmp_path, monkeypatch, way):
    """What was seen then would be written down, and not be there any more."""
    with unreliable(raw) as (url, _):
        place = Place(url, SlideCache(tmp_path / "mirrors", 2**30)) / "raw.tif"
        with closing(open_slide(place, None)) as slide:
            expected, structure = whole(slide), slide.structure
        (folder,) = (path for path in place.cache.folder.iterdir() if path.is_dir())
        real, took = BlockFile._checksum, []

        def checksum(file: BlockFile, block: int) -> int:
            found = real(file, block)
            took.append(cache_module._take_pixels(folder))
            return found

        monkeypatch.setattr(blocks, "_this_start", lambda: np.uint64(12345))
        monkeypatch.setattr(BlockFile, "_checksum", checksum)
        if way == "bring":
            bring([wanted(place, structure)])
        else:
            with closing(Mirror(place, structure.file_bytes, structure.modified_ns)) as mirror:
                mirror.prepare()
                if way == "damage":
                    mirror.refuse_damage()
        assert took and not any(took)
        monkeypatch.setattr(BlockFile, "_checksum", real)
        with closing(open_slide(place, None, structure=structure)) as slide:
            np.testing.assert_array_equal(whole(slide), expected)


def test_a_disk_without_holes_loses_no_more_slides_than_it_has_to(server, tmp_path, monkeypatch):
    """What their records say is left alone: one whole slide makes room enough."""
    url, _ = server
    cache = SlideCache(tmp_path / "mirrors", 2**30)
    for k in range(4):
        with closing(open_slide(Place(url, cache) / f"{k}.tif", None)) as slide:
            whole(slide)
    records = {record: record.read_bytes() for record in cache.folder.glob("*/*.blocks")}
    monkeypatch.setattr(cache_module, "_punch", lambda *_: False)
    SlideCache(cache.folder, int(taken(cache) / 0.96)).make_room()
    left = {record: record.read_bytes() for record in cache.folder.glob("*/*.blocks")}
    assert len(left) == 3 and left.items() < records.items()


def test_a_mirror_that_was_never_finished_is_removed_and_harms_nothing(folder, server, tmp_path, monkeypatch):
    """As a process leaves it that ends, or finds the disk full, while it makes one."""
    url, _ = server
    cache = SlideCache(tmp_path / "mirrors", MIB)

    def full(*_) -> BlockFile:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mirror_module, "BlockFile", full)
        with pytest.raises(OSError, match="No space"):
            open_slide(Place(url, cache) / "0.tif", None)
    assert len(list(cache.folder.glob("*/mirror.json"))) == 1
    for k in (1, 2, 3):
        with closing(open_slide(Place(url, cache) / f"{k}.tif", None)) as slide:
            np.testing.assert_array_equal(whole(slide), whole(open_slide(folder / f"{k}.tif", None)))
    SlideCache(cache.folder, 1).make_room()
    assert not list(cache.folder.glob("*/mirror.json"))


def test_locks_that_keep_others_away_are_asked_of_files_that_may_be_written(server, tmp_path, monkeypatch):
    """Linux's NFS refuses others."""
    url, _ = server
    cache, modes, real = SlideCache(tmp_path / "mirrors", 1), [], fcntl.flock

    def flock(file, how: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if how & fcntl.LOCK_EX:
            modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with closing(open_slide(Place(url, cache) / "0.tif", None)) as slide:
        whole(slide)
    cache.make_room()
    assert not list(cache.folder.glob("*/mirror.json"))
    assert len(modes) >= 3 and os.O_RDONLY not in modes


def test_a_disk_without_locks_has_no_bound_and_that_is_said_once(server, tmp_path, monkeypatch, caplog):
    url, _ = server
    cache_module._say_unbounded.cache_clear()
    cache = SlideCache(tmp_path / "mirrors", 1)

    def flock(*_) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with closing(open_slide(Place(url, cache) / "0.tif", None)) as slide:
        whole(slide)
    for _ in range(2):
        cache.make_room()
    assert len(list(cache.folder.glob("*/mirror.json"))) == 1
    assert [record.message[:50] for record in caplog.records] == ["The slide cache cannot be kept below slide_cache.g"]


READ = """
import hashlib, sys
from pathlib import Path
from pathssl.slides import cucim_reader
cucim_reader.available()
import numpy as np
from pathssl.data.patches import PatchReader
from pathssl.data.sampling import Region, Sampler
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.place import Place
from pathssl.slides.slide_index import SlideIndex
root, built, folder, seed, count = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
root = Place(root, SlideCache(folder, 2**19)) if "://" in root else Path(root)
index, rng, told = SlideIndex.load(built, root), np.random.default_rng(seed), hashlib.sha256()
sampler = Sampler(index, slides=np.arange(len(index)), mpp=[1.0, 0.4, 0.25], weight=[1.0, 1.0, 1.0], patch_px=120, min_tissue=0.4,
                  batch_size=8, region=Region(1, 1.0, 1))
reader, slides = PatchReader(sampler, seed=seed, open_slides=3), {}
for step in range(count):
    told.update(reader.read(np.arange(8 * step, 8 * step + 8)).pixels.tobytes())
    for _ in range(8):
        k = int(rng.integers(len(index)))
        if k not in slides or rng.random() < 0.2:
            slides[k] = index.open(k)
        told.update(slides[k].read(int(rng.integers(1150)), int(rng.integers(850)), float(rng.choice([0.25, 0.4, 1.0])), 120).tobytes())
print(told.hexdigest())
"""


@pytest.mark.slow
def test_processes_that_take_room_from_one_another_read_right_patches(folder, raw, tmp_path):
    """Three at a time in a cache that holds a tenth of the slides; and a fourth that is killed again and again."""
    slides, count = tmp_path / "slides", 40
    shutil.copytree(folder, slides)
    shutil.copy(raw / "raw.tif", slides)
    here = build(slides, tmp_path / "here")

    def start(root: str, built: Path, seed: int) -> subprocess.Popen:
        command = [sys.executable, "-c", READ, root, str(built), str(tmp_path / "mirrors"), str(seed), str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    with unreliable(slides) as (url, _):
        listed = tmp_path / "m.csv"
        listed.write_text("slide\n" + "".join(f"{name}\n" for name in here.paths))
        there = build(url, tmp_path / "there", listed, mirrors=SlideCache(tmp_path / "first", 2**30))
        running, killed = [start(url, there.folder, seed) for seed in range(3)], 0
        while any(process.poll() is None for process in running):
            victim = start(url, there.folder, 99)
            try:
                victim.wait(2.5 + 0.37 * killed)
            except subprocess.TimeoutExpired:
                victim.kill()
            killed += victim.wait() != 0
        assert killed
    for seed, process in enumerate(running):
        assert process.communicate()[0].strip() == start(str(slides), here.folder, seed).communicate()[0].strip() != ""
