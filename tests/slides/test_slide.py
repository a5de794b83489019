"""Slide.read: exact places, exact scales, white outside, one handle per process."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from einops import reduce
from golden_slides import REAL, position_colours, tissue_pixels, write_pyramid

from pathssl.errors import UserError
from pathssl.slides import slide as slide_module
from pathssl.slides.fault import SlideError
from pathssl.slides.slide import open_slide

READERS = ("cucim", "openslide", "tifffile")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("factor", [1, 4, 16])
def test_a_level_at_its_own_mpp_gives_its_pixels_at_the_asked_place(golden, reader, factor):
    slide = open_slide(golden, None, reader)
    assert (slide.width, slide.height, slide.mpp, slide.reader) == (2048, 1536, 0.25, reader)
    mean = reduce(position_colours(2048, 1536).astype(float), "(h a) (w b) c -> h w c", "mean", a=factor, b=factor)
    truth = np.rint(mean).astype(np.uint8)
    for x, y in ((0, 0), (5, 7), (2048 // factor - 40, 1536 // factor - 40)):
        patch = slide.read(x * factor, y * factor, 0.25 * factor, 40)
        np.testing.assert_array_equal(patch, truth[y : y + 40, x : x + 40])


@pytest.mark.parametrize("mpp", [0.4, 0.5, 0.73, 1.5, 3.0])
def test_between_levels_colours_tell_the_asked_place_to_half_a_step(golden, mpp):
    patch = open_slide(golden, None).read(301, 203, mpp, 32).astype(float)
    centre = (np.arange(32) + 0.5) * mpp / 0.25
    # A pixel of step k covers 8 k ... 8 k + 8, so a smooth average reads (x - 4) / 8.
    np.testing.assert_allclose(patch[:, :, 0], np.broadcast_to((301 + centre - 4) / 8, (32, 32)), atol=0.76)
    np.testing.assert_allclose(patch[:, :, 1], np.broadcast_to(((203 + centre - 4) / 8)[:, None], (32, 32)), atol=0.76)


def test_resampling_is_the_antialiased_triangle_filter(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    slide = open_slide(write_pyramid(tmp_path / "noise.tif", noise, factors=(1,)), None)
    patch = slide.read(100, 60, 0.5, 8)
    weights = np.array([1, 3, 3, 1]) / 8  # a triangle of half-width 2 around the middle of two pixels
    for row, column in ((0, 0), (3, 5), (7, 7)):
        top, left = 60 + 2 * row - 1, 100 + 2 * column - 1
        expected = np.einsum("i,j,ijc->c", weights, weights, noise[top : top + 4, left : left + 4].astype(float))
        np.testing.assert_allclose(patch[row, column], expected, atol=1)


@pytest.mark.parametrize("mpp", [0.25, 0.4, 1.0])
def test_outside_is_white_and_bleeds_only_one_filter_width(tmp_path, mpp):
    slide = open_slide(write_pyramid(tmp_path / "black.tif", np.zeros((512, 512, 3), np.uint8)), None)
    patch = slide.read(-80, -80, mpp, 400)
    inside = slice(int(80 * 0.25 / mpp) + 2, int((80 + 512) * 0.25 / mpp) - 2)
    assert (patch[inside, inside] == 0).all()
    assert (patch[: inside.start - 4] == 255).all()
    assert (patch[:, inside.stop + 4 :] == 255).all()
    assert (slide.read(10_000, -10_000, mpp, 16) == 255).all()


def test_a_level_up_to_five_percent_too_coarse_is_used_and_no_coarser_one(golden):
    assert slide_module.coarsest_level([1, 4, 16], 0.25, 0.96) == 1
    assert slide_module.coarsest_level([1, 4, 16], 0.25, 0.95) == 0
    assert slide_module.coarsest_level([1, 4, 16], 0.25, 0.2381) == 0
    assert slide_module.coarsest_level([1, 4, 16], 0.25, 0.238) is None
    slide = open_slide(golden, None)
    assert slide.read(0, 0, 0.24, 32).shape == (32, 32, 3)
    with pytest.raises(UserError, match=r"asked for 0.2 um per pixel, but its finest level has 0.25"):
        slide.read(0, 0, 0.2, 32)


@pytest.mark.parametrize("reader", READERS)
def test_levels_cut_to_whole_pixels_come_back_uninterpolated(tmp_path, reader):
    pixels = np.random.default_rng(1).integers(0, 256, (1483, 1111, 3), dtype=np.uint8)
    path = write_pyramid(tmp_path / "odd.tif", pixels, factors=(1, 2, 4, 8), tile=(128, 128))
    slide = open_slide(path, None, reader)
    assert slide.downsamples == [1, 2, 4, 8]
    for factor in (2, 4, 8):
        mean = reduce(
            pixels[: 1483 // factor * factor, : 1111 // factor * factor].astype(np.float32),
            "(h a) (w b) c -> h w c",
            "mean",
            a=factor,
            b=factor,
        )
        x, y = 1111 // factor - 100, 1483 // factor - 110
        patch = slide.read(x * factor, y * factor, 0.25 * factor, 100)
        np.testing.assert_array_equal(patch, np.rint(mean).astype(np.uint8)[y : y + 100, x : x + 100])


def test_thumbnails_are_seamless_over_the_blocks_they_are_read_in(golden, monkeypatch):
    whole = open_slide(golden, None).thumbnail(3.1)
    assert whole.shape == (124, 166, 3)
    monkeypatch.setattr(slide_module, "_WINDOW_PX", 100)
    blocks = open_slide(golden, None).thumbnail(3.1).astype(int)
    assert np.abs(blocks - whole).max() <= 1  # the filter's weights are rounded to 8 bits from other offsets


def test_a_slide_keeps_one_handle_and_survives_close_and_pickling(golden, monkeypatch):
    opened = []
    monkeypatch.setattr(
        slide_module, "read_layout", lambda path, real=slide_module.read_layout: opened.append(1) or real(path)
    )
    slide = open_slide(golden, None)
    patch = slide.read(64, 64, 0.25, 32)
    slide.read(0, 0, 1.0, 32)
    assert len(opened) == 1
    copy = pickle.loads(pickle.dumps(slide))
    assert (copy.width, copy.mpp, len(opened)) == (2048, 0.25, 1)
    np.testing.assert_array_equal(copy.read(64, 64, 0.25, 32), patch)
    slide.close()
    np.testing.assert_array_equal(slide.read(64, 64, 0.25, 32), patch)
    assert len(opened) == 1, "what the tags say is kept, so that opening again costs little"


def test_another_process_reads_the_same_pixels(golden, tmp_path):
    slide = open_slide(golden, None)
    (tmp_path / "slide.pickle").write_bytes(pickle.dumps(slide))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).read(7, 9, 0.4, 64).sum())"
    command = [sys.executable, "-c", code, str(tmp_path / "slide.pickle")]
    repository = Path(__file__).resolve().parents[2]
    answer = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=True).stdout
    assert int(answer) == slide.read(7, 9, 0.4, 64).sum()


def test_mpp_comes_from_the_argument_else_from_the_file(tmp_path):
    pixels = tissue_pixels(300, 300)
    assert open_slide(write_pyramid(tmp_path / "a.tif", pixels, mpp=0.25), 0.5).mpp == 0.5
    bare = write_pyramid(tmp_path / "b.tif", pixels, mpp=None)
    assert open_slide(bare, 0.3).mpp == 0.3
    with pytest.raises(SlideError, match="no mpp; give it in the manifest column mpp"):
        open_slide(bare, None)
    assert open_slide(write_pyramid(tmp_path / "c.tif", pixels, mpp=(0.25, 0.252)), None).mpp == pytest.approx(0.251)
    with pytest.raises(SlideError, match="not square"):
        open_slide(write_pyramid(tmp_path / "d.tif", pixels, mpp=(0.25, 0.26)), None)
    with pytest.raises(SlideError, match="no microscope"):
        open_slide(write_pyramid(tmp_path / "e.tif", pixels, mpp=352.8), None)
    aperio = "Aperio Image Library v11.2.1\r\n300x300 (256x256) JPEG/RGB Q=70|AppMag = 40|MPP = 0.2520"
    svs = write_pyramid(tmp_path / "f.svs", pixels, mpp=None, compression="jpeg", description=aperio)
    assert open_slide(svs, None).mpp == 0.252


def test_wrong_arguments_are_answered_in_a_sentence(golden):
    with pytest.raises(UserError, match="choose one of auto, cucim, openslide, tifffile"):
        open_slide(golden, None, "pil")
    with pytest.raises(UserError, match="mpp -1"):
        open_slide(golden, -1.0)


def test_a_file_that_cannot_be_reached_is_no_bad_slide(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", tissue_pixels(300, 300))
    slide = open_slide(path, None)
    slide.close()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        slide.read(0, 0, 0.25, 32)


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data/slides")
@pytest.mark.parametrize(
    ("name", "mpp", "tolerance"),
    [
        ("CMU-1-Small-Region.svs", None, 0),
        ("cmu1_small_pyramid_0.499mpp.tif", None, 0),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.5, 1),
    ],
)
def test_readers_agree_on_real_slides_on_all_levels_and_between(name, mpp, tolerance):
    slides = [open_slide(REAL / name, mpp, reader) for reader in READERS]
    rng = np.random.default_rng(0)
    for downsample in (*slides[0].downsamples, 1.37, 2.9):
        for _ in range(4):
            x, y = (int(rng.integers(-100, side)) for side in (slides[0].width, slides[0].height))
            x, y = (int(value // downsample * downsample) for value in (x, y))
            first, *others = (slide.read(x, y, slide.mpp * downsample, 224).astype(int) for slide in slides)
            for other in others:
                assert np.abs(first - other).max() <= tolerance


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data/slides")
def test_real_slides_state_their_mpp_or_are_refused():
    assert open_slide(REAL / "CMU-1-Small-Region.svs", None).mpp == 0.499
    with pytest.raises(SlideError, match="no mpp"):
        open_slide(REAL / "tcga-cr-7395-01a-01-ts1.svs", None)
    dicom = open_slide(REAL / "multi_frame_jpeg_camelyon_challenge_image.dcm", None)
    assert (dicom.reader, dicom.mpp) == ("openslide", pytest.approx(28.9685))
    assert dicom.thumbnail(60).shape == (338, 557, 3)
    with pytest.raises(SlideError, match="dicom"):
        open_slide(REAL / "multi_frame_jpeg_camelyon_challenge_image.dcm", None, "cucim")
