"""Slides that an index has looked at before: several patches at a time, opened again at little cost, and the same in every respect."""

import gc
import json
import os
import pickle
import time

import numpy as np
import pytest
import tifffile
from golden_slides import build, tissue_pixels, write_pyramid

from pathssl.errors import UserError
from pathssl.slides import cucim_reader, openslide_reader, slide
from pathssl.slides.fault import SlideError
from pathssl.slides.index import SlideIndex, build_index
from pathssl.slides.layout import read_layout
from pathssl.slides.slide import open_slide

READERS = ("cucim", "openslide", "tifffile")
SETTINGS = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 32.0, "min_tissue": 0.4}


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory):
    path = tmp_path_factory.mktemp("jpeg") / "jpeg.tif"
    return write_pyramid(path, tissue_pixels(1500, 1300), factors=(1, 4), compression="jpeg")


@pytest.fixture
def index(jpeg, tmp_path):
    """Of a copy of that slide, which tests may spoil."""
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "jpeg.tif").write_bytes(jpeg.read_bytes())
    return build_index(
        tmp_path / "slides", cache=tmp_path / "i", manifest=None, reader="auto", workers=0, progress=False, **SETTINGS
    )


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mpp", [0.25, 0.4, 0.5, 1.0, 1.3])
@pytest.mark.parametrize("near", [(700, 600), (-40, -25), (1450, 1280)], ids=["inside", "corner", "far corner"])
def test_patches_read_together_are_those_read_one_by_one(jpeg, reader, mpp, near):
    one = open_slide(jpeg, None, reader)
    rng = np.random.default_rng(1)
    x0, y0 = near[0] + rng.integers(0, 150, 5), near[1] + rng.integers(0, 150, 5)
    out = np.zeros((5, 48, 48, 3), np.uint8)
    one.read_patches(x0, y0, mpp, out)
    for k in range(5):
        np.testing.assert_array_equal(out[k], one.read(int(x0[k]), int(y0[k]), mpp, 48))


def test_neighbours_take_one_look_and_strangers_one_each(jpeg, monkeypatch):
    one, looks = open_slide(jpeg, None), []
    reader = one._opened()
    real = reader.read
    monkeypatch.setattr(reader, "read", lambda *window: looks.append(window) or real(*window))
    out = np.zeros((3, 48, 48, 3), np.uint8)
    one.read_patches([600, 640, 610], [500, 540, 560], 0.25, out)
    assert len(looks) == 1
    one.read_patches([0, 1400, 700], [0, 1200, 600], 0.25, out)
    assert len(looks) == 4


def test_a_slide_opened_through_the_index_looks_at_no_tags(index, monkeypatch):
    def forbidden(*_):
        raise AssertionError("the index knows this")

    expected = open_slide(index.root / index.paths[0], None)
    monkeypatch.setattr(slide, "read_layout", forbidden)
    monkeypatch.setattr(openslide_reader, "vendor_of", forbidden)
    known = pickle.loads(pickle.dumps(index)).open(0)
    assert (known.reader, known.width, known.height, known.downsamples, known.tile_px) == (
        expected.reader, expected.width, expected.height, expected.downsamples, expected.tile_px
    )  # fmt: skip
    assert cucim_reader.available()[0] == (known.reader == "cucim")
    for mpp in (0.25, 0.6, 1.0):
        np.testing.assert_array_equal(known.read(500, 400, mpp, 64), expected.read(500, 400, mpp, 64))


def test_opening_through_the_index_takes_a_fraction_of_the_time(index):
    def seconds(opened):
        start = time.perf_counter()
        for _ in range(20):
            opened().close()
        return time.perf_counter() - start

    path = index.root / index.paths[0]
    pairs = [(seconds(lambda: open_slide(path, 0.25)), seconds(lambda: index.open(0))) for _ in range(5)]
    assert np.median([new / again for new, again in pairs]) > 2


def test_the_index_knows_levels_and_tiles(index):
    assert index.downsamples[0, :2].tolist() == [1, 4] and np.isinf(index.downsamples[0, 2:]).all()
    assert index.tile_width[0, :2].tolist() == index.tile_height[0, :2].tolist() == [256, 256]
    level, ratio = index.source(np.zeros(4, int), np.array([0.25, 0.4, 1.0, 2.0]))
    assert level.tolist() == [0, 0, 1, 1] and ratio == pytest.approx([1, 1.6, 1, 2])


def test_damage_after_indexing_is_found_where_it_is(index):
    path = index.root / index.paths[0]
    facts, content = path.stat(), bytearray(path.read_bytes())
    layout = index.open(0).structure.layout
    file = os.open(path, os.O_RDONLY)
    offset, size = layout.levels[0].stored(file, range(2, 3), range(2, 3))[0]
    os.close(file)
    content[offset : offset + size] = bytes(size)
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    known = index.open(0)
    with pytest.raises(SlideError, match=r"jpeg\.tif: tile \d+ of level 0 is damaged"):
        known.read(2 * 256 + 20, 2 * 256 + 20, 0.25, 64)
    assert known.read(20, 20, 0.25, 64).shape == (64, 64, 3)


def replaced(path, **changes) -> None:
    """Puts another slide under the name of one."""
    settings = {"pixels": tissue_pixels(1500, 1300), "factors": (1, 4), "compression": "jpeg"}
    write_pyramid(path.with_name("other"), **(settings | changes)).rename(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"tile": (128, 128)},
        {"pixels": tissue_pixels(1500, 1300, seed=5)},
        {"pixels": tissue_pixels(900, 700)},
        {"mpp": 0.5},
    ],
    ids=["tiles", "tissue", "size", "mpp"],
)
def test_another_slide_under_the_name_is_refused(index, changes):
    path = index.root / index.paths[0]
    opened = index.open(0)
    replaced(path, **changes)
    with pytest.raises(OSError, match=r"jpeg\.tif has changed since it was indexed: .* python -m pathssl index"):
        index.open(0)
    opened.close()  # as when its turn among the open slides has passed, or in another process
    with pytest.raises(OSError, match="has changed since it was indexed"):
        opened.read(700, 600, 0.25, 64)


def test_a_slide_that_was_touched_or_copied_opens(index, jpeg):
    path = index.root / index.paths[0]
    expected = open_slide(jpeg, None).read(700, 600, 0.25, 64)
    os.utime(path, (1, 1))
    np.testing.assert_array_equal(index.open(0).read(700, 600, 0.25, 64), expected)
    path.unlink()
    path.write_bytes(jpeg.read_bytes())
    np.testing.assert_array_equal(index.open(0).read(700, 600, 0.25, 64), expected)


def test_the_mpp_of_a_manifest_is_not_looked_for_in_the_file(tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    replaced(slides / "a.tif")
    (tmp_path / "m.csv").write_text("slide,mpp\na,0.5\n")
    index = build(slides, tmp_path / "i", tmp_path / "m.csv")
    os.utime(slides / "a.tif", (1, 1))
    assert index.open(0).mpp == 0.5


def test_the_files_that_belong_to_a_slide_count(tmp_path):
    """Those of its series, not another's in the same folder; another level under one's name is another slide."""
    pytest.importorskip("pydicom")
    from dicom_slide import write_dicom

    slides, tissue = tmp_path / "slides", tissue_pixels(900, 700)
    write_dicom(slides, [tissue, tissue[::4, ::4]], 0.5)
    index = build(slides, tmp_path / "i")
    (main,) = index.paths
    (other,) = {file.name for file in slides.iterdir()} - {main}
    write_dicom(slides, [tissue_pixels(600, 600, seed=1)], 0.5)
    assert index.open(0).width == 900
    assert (
        build(slides, tmp_path / "i").fingerprints[build(slides, tmp_path / "i").paths.index(main)]
        == index.fingerprints[0]
    )
    os.utime(slides / other, (1, 1))
    assert index.open(0).width == 900
    assert build(slides, tmp_path / "j").fingerprints != index.fingerprints
    with open(slides / other, "ab") as file:
        file.write(bytes(16))
    with pytest.raises(OSError, match="has changed since it was indexed"):
        index.open(0)
    (slides / other).unlink()
    with pytest.raises(OSError, match="has changed since it was indexed"):
        index.open(0)


def test_slides_that_are_dropped_or_refused_leave_no_descriptor_open(jpeg, tmp_path):
    no_mpp = write_pyramid(tmp_path / "no_mpp.tif", tissue_pixels(300, 300), mpp=None, compression="jpeg")
    open_slide(jpeg, None).read(0, 0, 0.25, 32)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        open_slide(jpeg, None).read(0, 0, 0.25, 32)
        with pytest.raises(SlideError, match="no mpp"):
            open_slide(no_mpp, None)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_is_cut_after_indexing_is_said_to_be_cut(index):
    path = index.root / index.paths[0]
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(SlideError, match=r"jpeg\.tif: .*truncated"):
        index.open(0)


def test_an_index_of_another_version_is_not_misread(index):
    facts = json.loads((index.folder / "index.json").read_text())
    (index.folder / "index.json").write_text(json.dumps(facts | {"version": 1}))
    with pytest.raises(UserError, match="has version 1, and this pathssl reads"):
        SlideIndex.load(index.folder)


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}, {"byteorder": ">", "bigtiff": True}])
@pytest.mark.parametrize("size", [(200, 200), (500, 200), (900, 700)], ids=["one tile", "two tiles", "many tiles"])
def test_lists_of_tiles_are_found_in_any_kind_of_tiff(tmp_path, options, size):
    """Of one or two tiles they stand in the directory itself; byte counts may have fewer bits than positions."""
    path, (width, height) = tmp_path / "a.tif", size
    with tifffile.TiffWriter(path, **options) as file:
        file.write(
            tissue_pixels(width, height),
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            resolution=(40_000, 40_000),
            resolutionunit="CENTIMETER",
            metadata=None,
        )
    level = read_layout(path).levels[0]
    with open(path, "rb") as file, tifffile.TiffFile(path) as truth:
        page = truth.pages[0]
        got = level.stored(file.fileno(), range(level.rows), range(level.columns))
        assert got == list(zip(page.dataoffsets, page.databytecounts, strict=True))
        pixels = page.asarray()
    for reader in ("auto", "tifffile"):
        np.testing.assert_array_equal(open_slide(path, None, reader).read(50, 30, 0.25, 150), pixels[30:180, 50:200])


def test_a_file_that_has_gone_is_no_bad_slide(index):
    (index.root / index.paths[0]).unlink()
    with pytest.raises(FileNotFoundError):
        index.open(0)


def test_a_slide_that_opens_and_is_refused_leaves_no_file_open(tmp_path):
    path = write_pyramid(tmp_path / "no_mpp.tif", tissue_pixels(600, 600), mpp=None, compression="jpeg")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(SlideError, match="no mpp"):
            open_slide(path, None)
    assert len(os.listdir("/proc/self/fd")) <= before
