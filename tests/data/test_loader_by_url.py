"""Patches of slides by URL: the first of a run are those from a disk, over HTTP and from S3, whatever is in the cache and what happens."""

import logging
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from golden_slides import REAL, build, noisy_tissue, write_pyramid
from servers import nginx, s3
from small_loader import BATCH, FOUR, SINGLE, digest, loader

from pathssl.data.patches import Unreachable
from pathssl.slides.remote import store
from pathssl.slides.remote.cache import SlideCache, _take_pixels

LARGE = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three small slides in two folders, and a real one where it is there."""
    folder = tmp_path_factory.mktemp("slides")
    for k in range(3):
        (folder / f"part{k % 2}").mkdir(exist_ok=True)
        pixels = noisy_tissue(1500, 1300, seed=k)
        write_pyramid(folder / f"part{k % 2}" / f"s{k}.tif", pixels, mpp=0.5, compression="jpeg")
    if REAL.is_dir():
        shutil.copy(REAL / "CMU-1-Small-Region.svs", folder)
    return folder


@pytest.fixture
def server(folder, tmp_path):
    with nginx(folder, tmp_path / "nginx", "autoindex on;") as server:
        yield server


def patches(index, count: int, workers: int = 0, region=SINGLE) -> list:
    return digest(loader(index, workers, region).batches(0, count // BATCH))


@pytest.mark.parametrize("region", [SINGLE, pytest.param(FOUR, marks=pytest.mark.slow)], ids=["single", "four"])
def test_patches_over_http_are_those_from_a_disk(folder, server, tmp_path, region):
    expected = patches(build(folder, tmp_path / "i"), 160, region=region)
    index = build(server.url, tmp_path / "i", mirrors=SlideCache(tmp_path / "mirrors", LARGE))
    assert patches(index, 160, region=region) == expected
    asked = len(server.requests())
    assert patches(index, 160, region=region) == expected
    assert len(server.requests()) == asked  # a warm cache needs no server


def test_what_a_batch_needs_is_asked_for_together(server, tmp_path, monkeypatch):
    """Not patch after patch: in one turn, of the tiles of all its slides."""
    index = build(server.url, tmp_path / "i", mirrors=SlideCache(tmp_path / "mirrors", LARGE))
    turns, real = [], store.Store.fetch
    monkeypatch.setattr(store.Store, "fetch", lambda s, wanted: turns.append(len(wanted)) or real(s, wanted))
    reader = loader(index, 0).reader
    for batch in range(6):
        for mirror in (tmp_path / "mirrors").glob("*/"):
            _take_pixels(mirror)
        before = len(turns)
        reader.read(np.arange(batch * BATCH, (batch + 1) * BATCH))
        reader.close()
        assert len(turns) - before == 1 and turns[-1] > 1


@pytest.mark.slow
def test_the_first_2000_patches_are_the_same_from_disk_http_and_s3(folder, server, tmp_path):
    """With a cold and a warm cache, and with one that holds a fraction of the slides."""
    workers = 2
    expected = patches(build(folder, tmp_path / "i"), 2000, workers)
    assert len(expected) == 250
    with s3(folder) as bucket:
        for name, url in (("http", server.url), ("s3", bucket)):
            index = build(url, tmp_path / "i", mirrors=SlideCache(tmp_path / name, LARGE))
            shutil.rmtree(tmp_path / name)  # also what the index has brought
            for state in ("cold", "warm"):
                assert patches(index, 2000, workers) == expected, f"{name}, {state}"
            little = build(url, tmp_path / "j", mirrors=SlideCache(tmp_path / f"little {name}", 2**20))
            assert patches(little, 2000, workers) == expected, f"{name}, little cache"


@pytest.mark.slow
def test_a_server_that_is_away_for_ten_seconds_costs_ten_seconds(folder, server, tmp_path, caplog):
    expected = patches(build(folder, tmp_path / "i"), 800, 2)
    mirrors = SlideCache(tmp_path / "mirrors", LARGE)
    index = build(server.url, tmp_path / "i", mirrors=mirrors)
    shutil.rmtree(mirrors.folder)
    batches, got = loader(index, 2).batches(0, 100), []
    got.append(next(batches))
    first = digest(got)
    server.stop()
    since = time.monotonic()
    back = threading.Timer(10, server.start)
    back.start()
    with caplog.at_level(logging.WARNING):
        got = first + digest(batches)
    back.join()
    assert got == expected and 9 < time.monotonic() - since < 60
    assert "trying again in" in caplog.text


def test_a_server_that_stays_away_stops_the_run_with_a_sentence(folder, server, tmp_path, monkeypatch):
    """And when it is back, the rest is what it would have been."""
    monkeypatch.setattr(store, "WAITS_S", (0.0,))
    monkeypatch.setattr("pathssl.data.patches._RETRY_S", (0.01,))
    expected = patches(build(folder, tmp_path / "i"), 80)
    mirrors = SlideCache(tmp_path / "mirrors", LARGE)
    index = build(server.url, tmp_path / "i", mirrors=mirrors)
    shutil.rmtree(mirrors.folder)
    assert patches(index, 8) == expected[:1]
    server.stop()
    shutil.rmtree(mirrors.folder, ignore_errors=True)
    with pytest.raises(Unreachable, match=r"cannot be read now, also after .* more attempts: http.*repeat the command"):
        patches(index, 80)
    server.start()
    assert digest(loader(index, 0).batches(1, 10)) == expected[1:]


def test_a_slide_that_changed_since_it_was_indexed_stops_the_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pathssl.data.patches._RETRY_S", (0.01,))
    served = tmp_path / "served"
    shutil.copytree(folder, served)
    with nginx(served, tmp_path / "nginx", "autoindex on;") as server:
        mirrors = SlideCache(tmp_path / "mirrors", LARGE)
        index = build(server.url, tmp_path / "i", mirrors=mirrors)
        shutil.rmtree(mirrors.folder)
        for file in served.rglob("*.tif"):
            file.write_bytes(file.read_bytes() + b"more")
        with pytest.raises(Unreachable, match="is not what it was when it was indexed"):
            patches(index, 80)
        anew = build(server.url, tmp_path / "i", mirrors=mirrors)
        assert patches(anew, 80) == patches(build(folder, tmp_path / "i"), 80)
