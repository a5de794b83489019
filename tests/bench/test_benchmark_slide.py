import einops
import numpy as np
import pytest
import tifffile

from pathssl.bench import benchmark_slide
from pathssl.bench.benchmark_slide import SETTINGS, Settings
from pathssl.errors import UserError
from pathssl.slides.slide import open_slide
from pathssl.slides.synthetic.pyramid import write_pyramid


def test_the_settings_are_those_that_the_figures_are_stated_for():
    assert Settings(side_px=20480, mpp=0.25, tile_px=256, quality=70, levels=(1, 4, 16)) == SETTINGS


def test_it_is_a_pyramid_of_jpeg_tiles_at_a_quarter_of_a_um(small_slide):
    path, made_of, _ = small_slide
    with tifffile.TiffFile(path) as file:
        assert [(page.imagewidth, page.imagelength) for page in file.pages] == [(2048, 2048), (512, 512)]
        assert all(page.compression == 7 and page.tile == (256, 256) for page in file.pages)
    slide = open_slide(path, None)
    assert (slide.width, slide.height, round(slide.mpp, 6)) == (2048, 2048, 0.25)
    assert made_of["source"] == "synthetic cohort" and 0.02 < made_of["bytes_per_pixel"] < 0.5


def test_the_field_is_mirrored_so_that_there_are_no_seams(small_slide):
    level = tifffile.imread(small_slide[0], key=0).astype(int)
    field = level[:640, :640]
    assert field.std() > 15
    for part in (level[:640, 640:1280][:, ::-1], level[640:1280, :640][::-1], level[:640, 1280:1920]):
        assert np.abs(part - field).mean() < 6  # JPEG blocks differ: 640 is no multiple of a tile


def test_coarser_levels_are_means_of_the_finest(small_slide):
    finest, coarser = (tifffile.imread(small_slide[0], key=key).astype(float) for key in (0, 1))
    by_32 = einops.reduce(finest, "(h a) (w b) c -> h w c", "mean", a=32, b=32)
    by_8 = einops.reduce(coarser, "(h a) (w b) c -> h w c", "mean", a=8, b=8)  # JPEG changes single pixels
    assert np.abs(by_32 - by_8).mean() < 2 and np.abs(by_32 - by_8).max() < 16  # other tissue is further than 20


def test_it_is_made_once_and_named_by_its_tissue_and_settings(small_slide, tmp_path, monkeypatch):
    path, _, cache = small_slide
    monkeypatch.setattr(benchmark_slide, "REAL_TISSUE", tmp_path / "none")
    monkeypatch.setattr(benchmark_slide, "_synthetic_field", lambda: np.zeros((300, 400, 3), np.uint8))
    settings = Settings(side_px=2048, levels=(1, 4))
    modified = path.stat().st_mtime_ns
    assert benchmark_slide.benchmark_slide(cache, None, settings)[0] == path and path.stat().st_mtime_ns == modified
    other = benchmark_slide.benchmark_slide(cache, None, Settings(side_px=1024, levels=(1, 4)))[0]
    assert other != path and not list(cache.glob("*.tmp"))


def test_tissue_of_a_given_slide_is_taken_where_there_is_most_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_slide, "_LARGEST_FIELD_UM", 256.0)
    picture = np.full((1024, 1536, 3), 240, np.uint8)
    picture[512:1024, 1024:1536] = np.random.default_rng(0).normal((150, 80, 150), 10, (512, 512, 3)).clip(0, 255)
    write_pyramid(tmp_path / "mine.tif", picture, 0.5)
    path, made_of = benchmark_slide.benchmark_slide(
        tmp_path, tmp_path / "mine.tif", Settings(side_px=2048, levels=(1, 4))
    )
    level = tifffile.imread(path, key=0)
    assert made_of["source"] == "mine.tif" and np.abs(level.mean((0, 1)) - (150, 80, 150)).max() < 8
    # At 0.5 um per pixel the field is 512 px wide; here 1,024, then comes its mirror image.
    assert np.abs(level[:, 1023].astype(int) - level[:, 1024]).mean() < 8


def test_a_slide_that_is_not_there_or_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--tissue nowhere\.svs is not a file"):
        benchmark_slide.benchmark_slide(tmp_path, tmp_path.joinpath("nowhere.svs").relative_to(tmp_path))
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(UserError, match="cannot be made"):
        benchmark_slide.benchmark_slide(tmp_path, tmp_path / "text.svs")
    assert not list(tmp_path.glob("*.tif"))
