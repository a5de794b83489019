"""Slides by URL where something goes wrong: it is tried again or stops with a sentence, and no patch is ever wrong."""

import errno
import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from golden_slides import build, tissue_pixels, write_pyramid
from servers import s3
from unreliable import unreliable

from pathssl.errors import UserError
from pathssl.slides.catalogue import list_slides
from pathssl.slides.fault import SlideError
from pathssl.slides.remote import blocks, store
from pathssl.slides.remote.blocks import BLOCK, BlockFile
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.facts import Changed, Facts, Full
from pathssl.slides.remote.mirror import Mirror
from pathssl.slides.remote.place import Place
from pathssl.slides.slide import open_slide


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    rng = np.random.default_rng(0)
    pixels = (tissue_pixels(1200, 900) + rng.integers(-20, 20, (900, 1200, 3))).clip(0, 255).astype(np.uint8)
    write_pyramid(folder / "a.tif", pixels, compression="jpeg")
    return folder


@pytest.fixture
def cache(tmp_path) -> SlideCache:
    return SlideCache(tmp_path / "mirrors", 2**30)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Retries follow at once."""
    monkeypatch.setattr(store, "WAITS_S", (0.0, 0.01, 0.01))
    monkeypatch.setattr(store, "_SILENCE_S", 0.5)


AT = 500, 400, 0.25, 200


@pytest.fixture(scope="module")
def patch(folder) -> np.ndarray:
    return open_slide(folder / "a.tif", None).read(*AT)


@pytest.mark.parametrize(
    "faults",
    [
        ["503", "500", "429"],
        ["cut", "cut", "cut"],
        ["trickle"],
        ["whole", "whole", "whole", "whole"],
        ["elsewhere", "elsewhere"],
        ["packed"],
        ["cut", "503", "elsewhere"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("waits")
def test_a_fault_that_passes_is_not_seen(folder, cache, patch, faults):
    with unreliable(folder) as (url, server), closing(open_slide(Place(url, cache) / "a.tif", None)) as slide:
        server.faults[:] = faults
        np.testing.assert_array_equal(slide.read(*AT), patch)
        assert len(server.faults) < len(faults)
    with unreliable(folder, *faults) as (url, server), closing(open_slide(Place(url, cache) / "a.tif", None)) as slide:
        np.testing.assert_array_equal(slide.read(*AT), patch)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("503", "cannot be read after 3 more attempts: the server answers 503"),
        ("cut", "cannot be read after 3 more attempts"),
        ("elsewhere", "cannot be read after 3 more attempts: an answer ended at byte"),
        ("packed", "the server packs the bytes"),
        ("404", "a.tif is not there"),
        ("403", "may not be read: the server answers 403. Where the server wants a name and a password"),
        ("bare", "tells neither ETag nor Last-Modified"),
    ],
)
@pytest.mark.usefixtures("waits")
def test_a_fault_that_stays_is_an_oserror_with_a_sentence_and_the_slide_is_not_blamed(
    folder, cache, patch, fault, sentence
):
    with unreliable(folder) as (url, server):
        place = Place(url, cache) / "a.tif"
        with closing(open_slide(place, None)) as slide:
            server.always = fault
            for _ in range(2):
                with pytest.raises(OSError, match=sentence):
                    slide.read(*AT)
            server.always = ""
            np.testing.assert_array_equal(slide.read(*AT), patch)
        server.always = fault
        with pytest.raises(OSError, match=sentence):
            open_slide(Place(url, SlideCache(cache.folder / "other", 2**30)) / "a.tif", None)


@pytest.mark.usefixtures("waits")
def test_a_slide_that_changes_is_no_mixture_of_two(folder, cache, patch, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    (served / "a.tif").write_bytes((folder / "a.tif").read_bytes())
    with unreliable(served) as (url, _):
        place = Place(url, cache) / "a.tif"
        with closing(open_slide(place, None)) as slide:
            content = (served / "a.tif").read_bytes()
            (served / "a.tif").write_bytes(content[:-1] + b"?")  # as long as before
            with pytest.raises(Changed, match=r"has changed: .* bytes, version"):
                slide.read(*AT)
            known = slide.structure
        with closing(open_slide(place, None)) as anew:  # who asks for no version gets today's
            np.testing.assert_array_equal(anew.read(*AT), patch)
        other = Place(url, SlideCache(tmp_path / "empty", 2**30)) / "a.tif"
        with pytest.raises(Changed, match=r"is not what it was when it was indexed.*python -m pathssl index"):
            open_slide(other, None, structure=known)


@pytest.mark.usefixtures("waits")
def test_a_server_without_head_and_without_ranges_serves(folder, cache, patch):
    with unreliable(folder, always="whole") as (url, server):
        server.do_HEAD = lambda handler: handler._answer(body=False, fault="405")
        with closing(open_slide(Place(url, cache) / "a.tif", None)) as slide:
            np.testing.assert_array_equal(slide.read(*AT), patch)


@pytest.mark.usefixtures("waits")
def test_a_head_without_a_length_is_asked_again_by_its_first_byte(folder, cache, patch):
    def head(handler) -> None:
        handler.send_response(200)
        handler.send_header("ETag", f'"{(folder / "a.tif").stat().st_mtime_ns}"')
        handler.end_headers()
        handler.close_connection = True

    with unreliable(folder) as (url, server):
        server.do_HEAD = head
        with closing(open_slide(Place(url, cache) / "a.tif", None)) as slide:
            np.testing.assert_array_equal(slide.read(*AT), patch)


@pytest.fixture
def parts(folder, tmp_path) -> Path:
    """A folder with a slide in each of its subfolders, and an empty one."""
    for name in ("p0", "p1", "p2"):
        (tmp_path / "served" / name).mkdir(parents=True)
        shutil.copy(folder / "a.tif", tmp_path / "served" / name / f"{name}.tif")
    (tmp_path / "served" / "empty").mkdir()
    return tmp_path / "served"


@pytest.mark.usefixtures("waits")
def test_no_slide_is_missing_because_a_list_could_not_be_had(parts, cache):
    """The server's connections are reset while it shows the subfolders."""
    expected = ["p0/p0.tif", "p1/p1.tif", "p2/p2.tif"]
    with unreliable(parts, "", "reset", "reset", "reset") as (url, server):
        assert [entry.path for entry in list_slides(url, None, mirrors=cache)[1]] == expected and not server.faults
        for faults in ([], [""]):  # at once, and after the first page
            server.faults[:], server.always = faults, "reset"
            with pytest.raises(UserError, match=r"cannot be listed: http://.* cannot be read after 3 more attempts"):
                list_slides(url, None, mirrors=cache)
            server.always = ""


def test_a_page_without_links_shows_no_slides(parts, cache):
    with unreliable(parts) as (url, _), pytest.raises(UserError, match=r"nothing that can be listed.* in a manifest"):
        list_slides(f"{url}/empty", None, mirrors=cache)


def block_file(path: Path, size: int = 5 * BLOCK + 100) -> BlockFile:
    return BlockFile(path, "http://host/a", Facts(size, "1"))


def test_blocks_are_here_once_they_are_whole(tmp_path):
    file, content = block_file(tmp_path / "a"), np.random.default_rng(0).bytes(5 * BLOCK + 100)
    write = file.writer(BLOCK - 10)  # from within a block on
    write(content[BLOCK - 10 : 2 * BLOCK - 1])
    assert file.missing([(0, len(content))]) == [(0, len(content))]
    write(content[2 * BLOCK - 1 : 2 * BLOCK])
    assert file.missing([(BLOCK, 2 * BLOCK)]) == [] and file.missing([(BLOCK - 1, BLOCK + 1)]) == [(0, BLOCK)]
    assert file.missing([(0, 1), (3 * BLOCK, 3 * BLOCK + 1)]) == [(0, 4 * BLOCK)]  # one request for neighbours
    file.writer(3 * BLOCK)(content[3 * BLOCK :])
    assert file.missing([(3 * BLOCK, len(content))]) == []  # the last is shorter
    again = block_file(tmp_path / "a")
    assert again.missing([(0, len(content))]) == [(0, 3 * BLOCK)]
    with open(tmp_path / "a", "rb") as held:
        held.seek(3 * BLOCK)
        assert held.read() == content[3 * BLOCK :]


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: os.truncate(path, 3 * BLOCK)], ids=["removed", "cut"]
)
def test_a_file_that_somebody_took_away_is_all_holes(tmp_path, spoil):
    content = np.random.default_rng(0).bytes(5 * BLOCK + 100)
    block_file(tmp_path / "a").writer(0)(content)
    spoil(tmp_path / "a")
    assert block_file(tmp_path / "a").missing([(0, len(content))]) == [(0, len(content))]


def test_after_a_power_cut_blocks_are_believed_only_if_their_bytes_are_there(tmp_path, monkeypatch):
    file, content = block_file(tmp_path / "a"), np.random.default_rng(0).bytes(5 * BLOCK + 100)
    file.writer(0)(content)
    os.pwrite(file.descriptor, bytes(100), 2 * BLOCK)  # the record came to the disk, and these bytes did not
    assert file.missing([(0, len(content))]) == []  # this start of the machine has written them
    monkeypatch.setattr(blocks, "_this_start", lambda: np.uint64(12345))
    assert block_file(tmp_path / "a").missing([(0, len(content))]) == [(2 * BLOCK, 3 * BLOCK)]
    assert block_file(tmp_path / "a").missing([(0, len(content))]) == [(2 * BLOCK, 3 * BLOCK)]


def test_a_damaged_image_is_fetched_again_and_a_damaged_slide_is_one(folder, cache, patch, tmp_path):
    """What the cache's disk has spoiled is no bad slide; the same bytes from the server are."""
    with unreliable(folder) as (url, _), closing(open_slide(Place(url, cache) / "a.tif", None, "tifffile")) as slide:
        slide.read(*AT)
        (data,) = cache.folder.glob("*/a.tif")
        layout = slide.structure.layout.levels[0]
        with open(data, "r+b") as file:
            offset, size = layout.stored(file.fileno(), range(1, 2), range(1, 2))[0]
            sound = data.read_bytes()
            file.seek(offset)
            file.write(bytes(size))
        with pytest.raises(OSError, match=r"was damaged .* it is fetched again"):
            slide.read(*AT)
        np.testing.assert_array_equal(slide.read(*AT), patch)
        assert data.read_bytes()[offset : offset + size] == sound[offset : offset + size]
    bad = tmp_path / "bad"
    bad.mkdir()
    content = (folder / "a.tif").read_bytes()
    (bad / "a.tif").write_bytes(content[:offset] + bytes(size) + content[offset + size :])
    with unreliable(bad) as (url, _), pytest.raises(SlideError, match=r"a\.tif: tile \d+ of level 0 is damaged"):
        open_slide(Place(url, cache) / "a.tif", None, "tifffile").read(*AT)


@pytest.fixture
def little_disk(tmp_path):
    """A disk with room for 400 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", place], check=False).returncode
    ):
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.usefixtures("waits")
def test_a_full_disk_is_said_and_goes_on_when_there_is_room(folder, patch, little_disk):
    with unreliable(folder) as (url, _):
        place = Place(url, SlideCache(little_disk, 2**30)) / "a.tif"
        with closing(open_slide(place, None)) as slide:
            (little_disk / "other").write_bytes(
                bytes(os.statvfs(little_disk).f_bavail * os.statvfs(little_disk).f_frsize)
            )
            with pytest.raises(Full, match=r"the disk of the slide cache .* is full: make room") as full:
                slide.read(*AT)
            assert full.value.errno == errno.ENOSPC
            (little_disk / "other").unlink()
            np.testing.assert_array_equal(slide.read(*AT), patch)


@pytest.mark.slow
def test_without_credentials_the_environment_is_asked_for(folder, cache, tmp_path, monkeypatch):
    with s3(folder) as url:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store._store.cache_clear()  # what this process has connected with so far
        with pytest.raises(UserError, match=r"may not be read: Unable to locate credentials.*AWS_ACCESS_KEY_ID"):
            build(url, tmp_path / "i", mirrors=cache)
        with pytest.raises(PermissionError, match="AWS_PROFILE"):
            Mirror(Place(url, cache) / "a.tif")
