"""Every format that a small file can be had for opens in each reader that takes it, with the right mpp, upright, pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from dicom_slide import write_dicom
from einops import reduce
from golden_slides import REAL, build, position_colours, tissue_pixels, write_pyramid

from pathssl.errors import UserError
from pathssl.slides.catalogue import list_slides
from pathssl.slides.fault import SlideError
from pathssl.slides.slide import READERS, open_slide

WIDTH, HEIGHT, MPP = 1100, 800, 0.25
PIXELS = position_colours(WIDTH, HEIGHT)
ALL, NO_CUCIM, TIFFFILE = {"cucim", "openslide", "tifffile"}, {"openslide", "tifffile"}, {"tifffile"}
APERIO = f"Aperio Image Library v12.0.15\n{WIDTH}x{HEIGHT} (256x256)|AppMag = 40|MPP = {MPP}"


def tiff(path: Path, compression, **options) -> Path:
    return write_pyramid(path, PIXELS, mpp=MPP, compression=compression, **options)


def ome(path: Path) -> Path:
    """Levels in SubIFDs."""
    with tifffile.TiffWriter(path) as file:
        options = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
        metadata = {"axes": "YXS", "PhysicalSizeX": MPP * 1000, "PhysicalSizeXUnit": "nm"}
        metadata |= {"PhysicalSizeY": MPP, "PhysicalSizeYUnit": "µm"}
        file.write(PIXELS, subifds=1, metadata=metadata, **options)
        file.write(coarse(4), subfiletype=1, **options)
    return path


def dicom(path: Path) -> Path:
    """A folder with two levels, a label and an overview; the first of its files."""
    series = write_dicom(path, [PIXELS, coarse(4)], MPP)
    for kind in ("LABEL", "OVERVIEW"):
        write_dicom(path, [PIXELS[:300, :200]], 4.0, kind=kind, series=series)
    return min(path.iterdir())


def coarse(factor: int) -> np.ndarray:
    mean = reduce(PIXELS.astype(np.float32), "(h a) (w b) c -> h w c", "mean", a=factor, b=factor)
    return np.rint(mean).astype(np.uint8)


FORMATS = {  # how it is written, who reads it, how far colours may be off
    "none": (lambda to: tiff(to / "a.tif", None), ALL, 0),
    "lzw": (lambda to: tiff(to / "a.tif", "lzw", predictor=True), ALL, 0),
    "deflate": (lambda to: tiff(to / "a.tif", "zlib"), ALL, 0),
    "deflate, predictor": (lambda to: tiff(to / "a.tif", "zlib", predictor=True), NO_CUCIM, 0),
    "zstd": (lambda to: tiff(to / "a.tif", "zstd"), NO_CUCIM, 0),
    "webp": (lambda to: tiff(to / "a.tif", "webp", compressionargs={"lossless": True}), TIFFFILE, 0),
    "jpeg": (lambda to: tiff(to / "a.tif", "jpeg", compressionargs={"level": 95}), ALL, 12),
    "big tiff, big endian": (lambda to: big_endian(to / "a.tif"), ALL, 0),
    "svs, jpeg": (lambda to: tiff(to / "a.svs", "jpeg", compressionargs={"level": 95}, description=APERIO), ALL, 12),
    "svs, jpeg 2000": (lambda to: tiff(to / "a.svs", 33005, description=APERIO), ALL, 12),
    "ome-tiff": (lambda to: ome(to / "a.ome.tif"), TIFFFILE, 0),
    "dicom": (lambda to: dicom(to / "a"), {"openslide"}, 0),
}


def big_endian(path: Path) -> Path:
    with tifffile.TiffWriter(path, bigtiff=True, byteorder=">") as file:
        for level, pixels in enumerate((PIXELS, coarse(4))):
            per_cm = 1e4 / (MPP * 4**level)
            file.write(
                pixels, tile=(256, 256), compression="zlib", photometric="rgb", subfiletype=int(level > 0), metadata=None,
                resolution=(per_cm, per_cm), resolutionunit="CENTIMETER",
            )  # fmt: skip
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_opens_in_its_readers_with_its_mpp_and_every_pixel_in_its_place(name, tmp_path):
    write, readers, off = FORMATS[name]
    path = write(tmp_path)
    opened = set()
    for reader in READERS:
        try:
            slide = open_slide(path, None, reader)
        except SlideError:
            continue
        opened.add(reader)
        assert slide.mpp == pytest.approx(MPP, rel=1e-4) and (slide.width, slide.height) == (WIDTH, HEIGHT)
        assert slide.downsamples == [1, 4]
        for x, y in ((0, 0), (130, 377), (WIDTH - 200, HEIGHT - 200)):
            found = slide.read(x, y, slide.mpp, 200).astype(int)
            assert np.abs(found - PIXELS[y : y + 200, x : x + 200]).max() <= off, (reader, x, y)
        found = slide.read(240, 160, 4 * slide.mpp, 100).astype(int)
        assert np.abs(found - coarse(4)[40:140, 60:160]).max() <= off, reader
        slide.close()
    assert opened - {"auto"} == readers and "auto" in opened


def test_a_folder_of_dicom_files_is_one_slide_named_by_its_folder_and_indexed(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        tissue = tissue_pixels(900, 700, seed)
        series = write_dicom(tmp_path / "slides" / name, [tissue, tissue[::4, ::4]], 0.5)
        write_dicom(tmp_path / "slides" / name, [tissue[:200, :200]], 4.0, kind="LABEL", series=series)
    (tmp_path / "m.csv").write_text("slide,case\none,A\n")
    root, entries = list_slides(tmp_path / "slides", tmp_path / "m.csv")
    assert [(Path(e.path).parent.name, e.case) for e in entries] == [("one", "A"), ("two", "two")]
    index = build(tmp_path / "slides", tmp_path / "cache")
    assert index.mpp == pytest.approx([0.5, 0.5]) and index.width.tolist() == [900, 900]
    assert index.downsamples[0].tolist() == [1, 4]
    np.testing.assert_array_equal(index.open(1).read(300, 200, 0.5, 100), tissue[200:300, 300:400])
    assert root == tmp_path / "slides"


def test_series_that_share_a_folder_are_slides_of_their_own(tmp_path):
    for seed in (1, 2):
        tissue = tissue_pixels(600, 500, seed)
        write_dicom(tmp_path, [tissue, tissue[::4, ::4]], 0.5)
    _, entries = list_slides(tmp_path, None)
    assert len(entries) == 2
    shown = {open_slide(tmp_path / e.path, None).read(200, 200, 0.5, 100).tobytes() for e in entries}
    assert len(shown) == 2
    with pytest.raises(UserError, match="No slides found"):
        list_slides(str(tmp_path / "*.svs"), None)


@pytest.mark.parametrize(
    ("pixels", "options", "says"),
    [
        (PIXELS.astype(np.uint16) * 256, {}, "3 channels of 16 bits; only 8-bit RGB"),
        (PIXELS[..., 0], {"photometric": "minisblack"}, "1 channels of 8 bits; only 8-bit RGB"),
        (np.dstack([PIXELS, PIXELS[..., 0]]), {"extrasamples": ["unassalpha"]}, "4 channels of 8 bits.*over white"),
        (np.moveaxis(PIXELS, -1, 0), {"planarconfig": "separate"}, "planes of their own"),
        (PIXELS, {"extratags": [(274, "H", 1, 6, True)]}, "orientation tag is 6, mirrored or turned"),
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_not_upright_8_bit_rgb_is_refused_in_a_sentence_by_all_readers(tmp_path, pixels, options, says, reader):
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256), metadata=None, **({"photometric": "rgb"} | options))
    with pytest.raises(SlideError, match=says):
        open_slide(tmp_path / "a.tif", 0.5, reader)


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data/slides")
@pytest.mark.parametrize(
    ("name", "mpp", "size", "readers"),
    [
        ("CMU-1-Small-Region.svs", 0.499, (2220, 2967), ALL),
        ("tcga-cr-7395-01a-01-ts1.svs", None, (4443, 3567), ALL),
        ("cmu1_small_pyramid_0.499mpp.tif", 0.499, (2220, 2967), ALL),
        ("multi_frame_jpeg2000_camelyon_challenge_image.dcm", 28.97, (1696, 812), {"openslide"}),
        ("multi_frame_jpeg_camelyon_challenge_image.dcm", 28.97, (1152, 700), {"openslide"}),
    ],
)
def test_real_files_open_in_their_readers_with_the_same_pixels(name, mpp, size, readers):
    patches = []
    for reader in sorted(readers):
        slide = open_slide(REAL / name, 0.5 if mpp is None else None, reader)
        assert (slide.width, slide.height) == size and slide.mpp == pytest.approx(mpp or 0.5, rel=1e-3)
        patches.append(slide.read(size[0] // 2, size[1] // 2, slide.mpp, 224))
    assert all(np.array_equal(patch, patches[0]) for patch in patches) and patches[0].std() > 1
