"""Slides by URL: the same bytes and patches as from a disk, little is fetched, and nothing twice."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
from golden_slides import REAL, build, position_colours, tissue_pixels, write_pyramid
from servers import nginx

from pathssl.errors import UserError
from pathssl.slides.catalogue import list_slides
from pathssl.slides.fault import SlideError
from pathssl.slides.remote.blocks import BLOCK
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.place import Place
from pathssl.slides.slide import Slide, open_slide

READERS = ("auto", pytest.param("openslide", marks=pytest.mark.slow), "tifffile")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Path:
    """A folder of slides of several kinds."""
    folder = tmp_path_factory.mktemp("served") / "slides"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(-20, 20, (1000, 1400, 3))  # larger files
    pixels = (tissue_pixels(1400, 1000, seed=1) + noise).clip(0, 255).astype(np.uint8)
    write_pyramid(folder / "jpeg.tif", pixels, compression="jpeg", factors=(1, 4))
    write_pyramid(folder / "lzw.tif", position_colours(1400, 1200), compression="lzw", factors=(1, 4, 16))
    with tifffile.TiffWriter(folder / "big end.tif", byteorder=">", bigtiff=True) as file:
        file.write(pixels, tile=(256, 256), photometric="rgb", compression="jpeg", metadata=None)
    write_pyramid(folder / "strips.tif", pixels, tile=None, factors=(1,), rowsperstrip=16)
    description = "Aperio Image Library v1|AppMag = 20|MPP = 0.25"
    write_pyramid(folder / "aperio.svs", pixels, compression="jpeg", description=description)
    _ome(folder / "subifds.ome.tif", pixels)
    for name in ("CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs"):
        if REAL.is_dir():
            shutil.copy(REAL / name, folder)
    return folder


def _ome(path: Path, pixels: np.ndarray) -> None:
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg"}
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, subifds=1, metadata=metadata, **options)
        file.write(np.ascontiguousarray(pixels[::4, ::4]), subfiletype=1, **options)


@pytest.fixture(scope="module")
def server(served, tmp_path_factory):
    with nginx(served, tmp_path_factory.mktemp("nginx"), "autoindex on;") as server:
        yield server


@pytest.fixture
def cache(tmp_path) -> SlideCache:
    return SlideCache(tmp_path / "mirrors", 2**30)


def windows(slide: Slide, count: int = 5) -> list[np.ndarray]:
    """Patches here and there, at several magnifications, some beyond the edge."""
    rng = np.random.default_rng(3)
    mpps = rng.choice([1.0, 1.6, 4.0], count) * slide.mpp
    places = rng.uniform(-0.05, 1, (count, 2)) * (slide.width, slide.height)
    return [slide.read(int(x), int(y), float(mpp), 80) for (x, y), mpp in zip(places, mpps, strict=True)]


def spoil_holes(mirrors: Path) -> int:
    """Fills everything that was not fetched with bytes that mean nothing; how many blocks."""
    count = 0
    for record in mirrors.glob("*/*.blocks"):
        data, present = record.with_suffix(""), np.fromfile(record, "<u8")
        with open(data, "r+b") as file:
            for block in range(-(-data.stat().st_size // BLOCK)):
                if block >= len(present) or not present[block]:
                    file.seek(block * BLOCK)
                    file.write(b"\xa5" * min(BLOCK, data.stat().st_size - block * BLOCK))
                    count += 1
    return count


@pytest.mark.parametrize("reader", READERS)
def test_patches_are_those_of_the_file_itself_and_nothing_of_a_hole_is_seen(served, server, cache, reader):
    """Holes are filled with bytes that no decoder would take, once what opening takes is there."""
    for file in sorted(served.iterdir()):
        try:
            expected = windows(open_slide(file, 0.25, reader))
        except SlideError:  # a codec that is not this reader's
            continue
        place = Place(server.url, cache) / file.name
        open_slide(place, 0.25, reader).close()
        assert spoil_holes(cache.folder) > 5, file.name
        for again in range(2):  # once more, from what is there by then
            with closing(open_slide(place, 0.25, reader)) as slide:
                np.testing.assert_array_equal(windows(slide), expected, f"{file.name}, {again}")
        shutil.rmtree(cache.folder)


def test_little_is_fetched_and_nothing_twice(served, server, cache):
    place = Place(server.url, cache) / "jpeg.tif"
    before = len(server.requests())
    with closing(open_slide(place, None)) as slide:
        opened = server.requests()[before:]
        patch = slide.read(700, 500, 0.25, 100)
        read = server.requests()[before + len(opened) :]
    size = (served / "jpeg.tif").stat().st_size
    assert sum(sent for _, _, sent in opened) < 0.5 * size and {status for _, status, _ in opened} == {200, 206}
    assert 1 <= len(read) <= 2 and sum(sent for _, _, sent in read) < 0.25 * size
    known = len(server.requests())
    with closing(open_slide(place, None, structure=slide.structure)) as slide:
        np.testing.assert_array_equal(slide.read(700, 500, 0.25, 100), patch)
    assert len(server.requests()) == known  # not even whether the slide is what it was: the index has said so


def test_an_index_by_url_is_that_of_the_folder(served, server, cache, tmp_path):
    here, there = build(served, tmp_path / "i"), build(server.url, tmp_path / "i", mirrors=cache)
    assert there.paths == here.paths and there.quarantined == here.quarantined
    assert there.mpp.tolist() == here.mpp.tolist() and there.case == here.case
    assert all(np.array_equal(there.tissue(k), here.tissue(k)) for k in range(len(here)))
    asked = len(server.requests())
    assert build(server.url, tmp_path / "i", mirrors=cache).paths == here.paths
    assert all(method == "HEAD" or sent < 10_000 for method, _, sent in server.requests()[asked:])  # no slide was read


def test_slides_are_named_by_globs_files_and_manifests(served, server, cache, tmp_path):
    def names(path, manifest=None):
        root, entries = list_slides(path, manifest, mirrors=cache)
        return [str(root / entry.path).removeprefix(f"{server.url}/") for entry in entries], entries

    assert names(f"{server.url}/jpeg.tif")[0] == ["jpeg.tif"]
    assert names(f"{server.url}/*.svs")[0] == [file.name for file in sorted(served.glob("*.svs"))]
    listed = tmp_path / "manifest.csv"
    listed.write_text(f"slide,mpp,case\n{server.url}/lzw.tif,0.5,P1\njpeg.tif,,P2\n")
    slides, entries = names(server.url, listed)
    assert slides == ["jpeg.tif", "lzw.tif"] and [(e.mpp, e.case) for e in entries] == [(None, "P2"), (0.5, "P1")]
    (served / "manifest.csv").write_text(f"slide\n{server.url}/lzw.tif\n{server.url}/jpeg.tif\n")
    assert names(None, f"{server.url}/manifest.csv")[0] == ["jpeg.tif", "lzw.tif"]
    (served / "manifest.csv").unlink()
    for path, manifest, complaint in (
        (None, None, "data.path must be given"),
        (None, listed, "must name each slide by its URL"),
        (f"{server.url}/elsewhere", listed, "does not lie below"),
        (f"{server.url}/elsewhere", None, "name the slides in a manifest"),
        (server.url, f"{server.url}/no.csv", "cannot be read: .*no.csv is not there"),
    ):
        with pytest.raises(UserError, match=complaint):
            list_slides(path, manifest, mirrors=cache)


def test_an_index_that_is_not_rescanned_is_had_without_a_question_to_the_server(server, cache, tmp_path):
    listed = tmp_path / "manifest.csv"
    listed.write_text(f"slide\n{server.url}/jpeg.tif\n{server.url}/lzw.tif\n")
    for path, manifest in ((server.url, None), (f"{server.url}/*.tif", None), (None, listed)):
        first = build(path, tmp_path / "i", manifest, mirrors=cache)
        asked = len(server.requests())
        again = build(path, tmp_path / "i", manifest, mirrors=cache, rescan=False)
        assert len(server.requests()) == asked
        assert (again.paths, again.root, again.folder) == (first.paths, first.root, first.folder)
    listed.write_text(f"slide\n{server.url}/jpeg.tif\n")
    assert build(None, tmp_path / "i", listed, mirrors=cache, rescan=False).paths == ["jpeg.tif"]


NAMES = ["a b.tif", "a#1.tif", "a%20c.tif", "a+b.tif", "\u00e4.tif", "a?b.tif", "a&b.tif", "100%/deep.tif"]


def test_names_that_urls_hold_quoted_are_what_they_are_on_a_disk(served, cache, tmp_path):
    folder = tmp_path / "slides"
    (folder / "100%").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(served / "jpeg.tif", folder / name)
    expected = windows(open_slide(served / "jpeg.tif", None), 2)
    with nginx(folder, tmp_path / "nginx", "autoindex on;") as server:
        index = build(server.url, tmp_path / "i", mirrors=cache)
        assert index.paths == sorted(NAMES) and not index.quarantined
        for k in range(len(index)):
            with closing(index.open(k)) as slide:
                for got, patch in zip(windows(slide, 2), expected, strict=True):
                    np.testing.assert_array_equal(got, patch)
        listed = tmp_path / "manifest.csv"
        listed.write_text(f"slide,case\na#1.tif,P1\n{server.url}/a%2520c.tif,P2\n{server.url}/100%25/deep.tif,P3\n")
        found = list_slides(server.url, listed, mirrors=cache)[1]
        assert [(entry.path, entry.case) for entry in found] == [
            ("100%/deep.tif", "P3"), ("a#1.tif", "P1"), ("a%20c.tif", "P2")
        ]  # fmt: skip
        assert [entry.path for entry in list_slides(f"{server.url}/a%231.tif", None, mirrors=cache)[1]] == ["a#1.tif"]


@pytest.fixture
def dicom(tmp_path) -> Path:
    """Two series in folders of their own, and two in one folder."""
    pytest.importorskip("pydicom")
    from dicom_slide import write_dicom

    for name, seed in (("one", 1), ("two", 2), ("both", 3), ("both", 4)):
        tissue = tissue_pixels(900, 700, seed)
        series = write_dicom(tmp_path / "dicom" / name, [tissue, tissue[::4, ::4]], 0.5)
        write_dicom(tmp_path / "dicom" / name, [tissue[:200, :200]], 4.0, kind="LABEL", series=series)
    return tmp_path / "dicom"


@pytest.mark.parametrize("ranges", ["", "max_ranges 0;"], ids=["ranges", "no ranges"])
def test_a_series_of_dicom_files_is_one_slide_of_which_its_own_files_are_fetched(dicom, cache, tmp_path, ranges):
    (dicom / "one" / "empty.dcm").touch()  # of no series
    here = build(dicom, tmp_path / "i")
    with nginx(dicom, tmp_path / "nginx", f"autoindex on; {ranges}") as server:
        there = build(server.url, tmp_path / "i", mirrors=cache)
        assert (there.paths, there.case, there.quarantined) == (
            here.paths, here.case, here.quarantined
        )  # fmt: skip
        assert len(there) == 4 and there.quarantined == [("one/empty.dcm", "the file is empty")]
        for k in range(4):
            with closing(there.open(k)) as slide:
                np.testing.assert_array_equal(windows(slide), windows(here.open(k)))
        fetched = [len(list(folder.glob("*.dcm"))) for folder in cache.folder.iterdir() if folder.is_dir()]
        assert sorted(fetched) == [1, 3, 3, 3, 3]


def test_a_file_that_belongs_to_a_slide_is_the_one_that_was_indexed(dicom, cache, tmp_path):
    with nginx(dicom / "one", tmp_path / "nginx", "autoindex on;") as server:
        index = build(server.url, tmp_path / "i", mirrors=cache)
        (name,) = index.paths
        level = max((dicom / "one").iterdir(), key=lambda file: (file.name != name, file.stat().st_size))
        content = level.read_bytes()
        level.write_bytes(content[:-500_000] + bytes(500_000))
        os.utime(level, (1, 1))
        with closing(index.open(0)) as slide:  # its mirror is whole
            slide.read(300, 300, 0.5, 100)
        elsewhere = Place(server.url, SlideCache(tmp_path / "other", 2**30)) / name
        with pytest.raises(OSError, match="is not what it was when it was indexed"):
            open_slide(elsewhere, 0.5, "auto", index.structure(0))
        assert build(server.url, tmp_path / "j", mirrors=cache).fingerprints != index.fingerprints


@pytest.mark.parametrize("status", [403, 404])
def test_a_slide_of_several_files_needs_a_server_that_lists_them(dicom, cache, tmp_path, status):
    name = min(file.name for file in (dicom / "one").iterdir())
    with (
        nginx(dicom / "one", tmp_path / "nginx", f"location = / {{ return {status}; }}") as server,
        pytest.raises(OSError, match=r"may be several files, and its server does not list its folder: copy"),
    ):
        open_slide(Place(server.url, cache) / name, None)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("https://me:hush@host/a", "https://...@host/a has a name or a password in it"),
        ("s3://key:hush@bucket/a", "AWS_ACCESS_KEY_ID"),
        ("https://host/a.svs?X-Amz-Signature=hush", "goes on with [?] or #"),
        ("ftp://host/a.svs", "from http, https, s3, gs, az, not from ftp"),
        ("s3:///a.svs", "names no server or bucket"),
        ("az://box/a.svs", "'[.]\\[az\\]'"),
    ],
)
def test_urls_that_cannot_be_used_are_refused_and_secrets_not_repeated(url, complaint, cache, monkeypatch):
    from pathssl.slides.remote import address

    real = address.importlib.util.find_spec
    monkeypatch.setattr(address.importlib.util, "find_spec", lambda name: None if name == "adlfs" else real(name))
    with pytest.raises(UserError, match=complaint) as refused:
        list_slides(url, None, mirrors=cache)
    assert "hush" not in str(refused.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real slides are not here")
def test_a_format_that_is_no_plain_tiff_is_fetched_whole(tmp_path, cache):
    (tmp_path / "dicom").mkdir()
    for file in REAL.glob("*.dcm"):
        shutil.copy(file, tmp_path / "dicom")
    name = "multi_frame_jpeg_camelyon_challenge_image.dcm"
    here = open_slide(tmp_path / "dicom" / name, None)
    with nginx(tmp_path / "dicom", tmp_path / "nginx", "autoindex on;") as server:
        place = Place(server.url, cache) / name
        with closing(open_slide(place, None)) as slide:
            assert slide.mpp == here.mpp and slide.downsamples == here.downsamples
            np.testing.assert_array_equal(windows(slide), windows(here))
    with closing(open_slide(place, None, structure=slide.structure)) as slide:  # its server is not needed any more
        np.testing.assert_array_equal(windows(slide), windows(here))
    assert [file.name for file in cache.folder.glob("*/*.dcm")] == [name]  # the other is a series of its own
