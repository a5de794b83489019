"""Which reader reads what: codecs, damage, sparse files, and the trap of importing torch before cuCIM."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from golden_slides import tissue_pixels, write_pyramid

from pathssl.slides import cucim_reader
from pathssl.slides.fault import SlideError
from pathssl.slides.slide import open_slide

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return tissue_pixels(700, 600)


@pytest.mark.parametrize(
    ("compression", "options", "best", "others"),
    [
        ("jpeg", {}, "cucim", ["openslide", "tifffile"]),
        (None, {}, "cucim", ["openslide", "tifffile"]),
        ("lzw", {"predictor": True}, "cucim", ["openslide", "tifffile"]),
        ("zlib", {}, "cucim", ["openslide", "tifffile"]),
        ("zlib", {"predictor": True}, "openslide", ["tifffile"]),
        ("zstd", {}, "openslide", ["tifffile"]),
        ("webp", {}, "tifffile", []),
        (33005, {}, "cucim", ["tifffile"]),
        ("jpeg", {"tile": None, "rowsperstrip": 64}, "tifffile", []),
    ],
)
def test_each_codec_goes_to_the_fastest_reader_that_is_right_for_it(
    tmp_path, pixels, compression, options, best, others
):
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression=compression, factors=(1, 2), **options)
    slide = open_slide(path, None)
    assert slide.reader == best
    with tifffile.TiffFile(path) as file:
        truth = file.pages[0].asarray()
    for reader in (best, *others):
        patch = open_slide(path, None, reader).read(100, 150, 0.25, 300)
        np.testing.assert_array_equal(patch, truth[150:450, 100:400])
    for reader in {"cucim", "openslide", "tifffile"} - {best, *others}:
        with pytest.raises(SlideError):
            open_slide(path, None, reader)


def test_without_cucim_openslide_reads(tmp_path, pixels, monkeypatch):
    monkeypatch.setattr(cucim_reader, "available", lambda: (False, "cuCIM is not installed"))
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg")
    assert open_slide(path, None).reader == "openslide"
    with pytest.raises(SlideError, match="cuCIM is not installed"):
        open_slide(path, None, "cucim")


def _damage(path: Path, index: int, change) -> None:
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[index], file.pages[0].databytecounts[index]
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = change(bytes(data[offset : offset + size]))
    path.write_bytes(data)


@pytest.mark.parametrize("reader", ["cucim", "openslide", "tifffile"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tile: bytes(len(tile)), id="zeros"),
        pytest.param(lambda tile: tile[: len(tile) // 2] + bytes(len(tile) - len(tile) // 2), id="half"),
    ],
)
def test_a_damaged_tile_is_an_error_and_its_neighbours_still_read(tmp_path, pixels, reader, change):
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg")
    sound = open_slide(path, None, reader).read(0, 0, 0.25, 256)
    _damage(path, 4, change)
    slide = open_slide(path, None, reader)
    with pytest.raises(SlideError, match=r"slide\.tif: "):
        slide.read(300, 300, 0.25, 100)
    np.testing.assert_array_equal(slide.read(0, 0, 0.25, 256), sound)


def test_black_and_grey_tissue_is_not_taken_for_damage(tmp_path):
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[:256] = 128
    slide = open_slide(write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg"), None, "cucim")
    assert (slide.read(0, 256, 0.25, 256) == 0).all()
    assert (slide.read(0, 0, 0.25, 256) == 128).all()


@pytest.mark.parametrize("reader", ["auto", "openslide", "tifffile"])
def test_tiles_that_a_sparse_file_does_not_store_are_white(tmp_path, pixels, reader):
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg")
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        offsets, sizes = list(page.dataoffsets), list(page.databytecounts)
        offsets[4] = sizes[4] = 0
        page.tags[324].overwrite(offsets)
        page.tags[325].overwrite(sizes)
    slide = open_slide(path, None, reader)
    assert slide.reader != "cucim"
    assert (slide.read(256, 256, 0.25, 200) == 255).all()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_does_not_open(tmp_path, pixels, share):
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg", factors=(1, 2, 4))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError):
        open_slide(path, None)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((300, 300, 3), np.uint16), "3 channels of 16 bits"),
        (np.zeros((300, 300), np.uint8), "1 channels of 8 bits"),
        (np.zeros((300, 300, 4), np.uint8), "4 channels of 8 bits"),
    ],
)
def test_pixels_that_are_not_8_bit_rgb_are_refused_in_a_sentence(tmp_path, array, reason):
    tifffile.imwrite(tmp_path / "a.tif", array, tile=(256, 256), photometric="rgb" if array.ndim == 3 else "minisblack")
    with pytest.raises(SlideError, match=reason):
        open_slide(tmp_path / "a.tif", 0.5)


def test_ome_pyramids_are_read_with_their_levels_and_mpp(tmp_path, pixels):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        options = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
        metadata = {"axes": "YXS", "PhysicalSizeX": 0.33, "PhysicalSizeY": 0.33}
        file.write(pixels, subifds=1, metadata=metadata, **options)
        file.write(pixels[::2, ::2], subfiletype=1, **options)
    slide = open_slide(tmp_path / "a.ome.tif", None)
    assert (slide.downsamples, slide.mpp) == ([1, 2], 0.33)
    np.testing.assert_array_equal(slide.read(0, 0, 0.66, 200), pixels[::2, ::2][:200, :200])


@pytest.mark.parametrize("content", [b"", b"not a slide", b"II*\0\x08\0\0\0"])
def test_what_is_no_slide_is_said_to_be_none(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(SlideError, match=r"a\.tif: "):
        open_slide(tmp_path / "a.tif", 0.5)


def _python(code: str, argument: Path) -> str:
    command = [sys.executable, "-c", code, str(argument)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
def test_torch_before_cucim_without_a_driver_falls_back_to_openslide_and_says_so_once(tmp_path, pixels):
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg")
    code = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="LOG %(message)s")
import torch
from pathssl.slides import cucim_reader
from pathssl.slides.slide import open_slide
cucim_reader._has_nvidia_driver = lambda: False
for _ in range(2):
    print("READ", open_slide(sys.argv[1], None).reader, "cucim" in sys.modules)
print(cucim_reader.available())
"""
    lines = _python(code, path).splitlines()
    assert lines.count("READ openslide False") == 2
    assert sum("torch was imported before cuCIM" in line for line in lines if line.startswith("LOG")) == 1


@pytest.mark.slow
def test_cucim_reads_after_torch_where_it_was_made_ready_before(tmp_path, pixels):
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg")
    code = """
import sys
from pathssl.slides import cucim_reader
assert cucim_reader.available() == (True, "")
import torch
from pathssl.slides.slide import open_slide
slide = open_slide(sys.argv[1], None)
print(slide.reader, slide.read(0, 0, 0.25, 64).shape, cucim_reader.available()[0])
"""
    assert _python(code, path).strip() == "cucim (64, 64, 3) True"


@pytest.mark.slow
def test_cucim_imported_but_not_made_ready_before_torch_is_not_used(tmp_path, pixels):
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg")
    code = """
import sys
import cucim, torch
from pathssl.slides import cucim_reader
from pathssl.slides.slide import open_slide
cucim_reader._has_nvidia_driver = lambda: False
print(open_slide(sys.argv[1], None).reader)
"""
    assert _python(code, path).split()[-1] == "openslide"


def test_reading_leaves_no_cufile_log(tmp_path, pixels):
    path = write_pyramid(tmp_path / "slide.tif", pixels, compression="jpeg")
    code = f"import os, sys; sys.path.insert(0, {str(REPOSITORY)!r}); os.chdir(os.path.dirname(sys.argv[1]))\n"
    code += "from pathssl.slides.slide import open_slide; open_slide(sys.argv[1], None).read(0, 0, 0.25, 32)"
    _python(code, path)
    assert [file.name for file in tmp_path.iterdir()] == ["slide.tif"]
