from functools import partial

import numpy as np
import pytest

from pathssl.bench import peers
from pathssl.slides import cucim_reader
from pathssl.slides.slide import open_slide

SIZE = 224
CORNERS = ([517, 100, 1301], [3, 900, 760])


def made(factory, *args):
    try:
        return factory(*args)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "factory",
    [
        pytest.param(peers.cucim, id="cucim"),
        pytest.param(peers.cucim_reopened, id="cucim reopened"),
        pytest.param(peers.openslide_, id="openslide"),
        pytest.param(peers.openslide_reopened, id="openslide reopened"),
        pytest.param(partial(peers.pathssl_reopened, mpp=0.25), id="pathssl reopened"),
        pytest.param(partial(peers.wsistream, mpp=0.25, batch_size=2), id="wsistream"),
    ],
)
def test_every_peer_reads_the_pixels_that_we_read_at_the_positions_that_it_is_given(small_slide, factory):
    path = small_slide[0]
    slide, read = open_slide(path, None), made(factory, path, SIZE)
    for x0, y0 in zip(*CORNERS, strict=True):
        assert np.array_equal(read([5, x0], [7, y0]), slide.read(x0, y0, slide.mpp, SIZE))
    assert np.array_equal(read(*CORNERS), slide.read(CORNERS[0][-1], CORNERS[1][-1], slide.mpp, SIZE))


def test_the_decoders_decode_the_tiles_under_a_position(small_slide):
    path = small_slide[0]
    slide = open_slide(path, None)
    assert np.array_equal(peers.imagecodecs_tiles(path, 256)([517], [1500]), slide.read(512, 1280, slide.mpp, 256))
    if cucim_reader.available()[0]:
        window = peers.cucim_tiles(path, 256)([517], [2000])
        assert np.array_equal(window, slide.read(512, 1536, slide.mpp, 512))


def test_a_slide_that_wsistream_cannot_read_is_a_fault_and_not_a_speed(tmp_path):
    (tmp_path / "text.tif").write_text("no slide")
    with pytest.raises(peers.FAULTS):
        made(peers.wsistream, tmp_path / "text.tif", SIZE, 0.25, 2)
