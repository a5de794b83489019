"""Images come in order, in one size, and within the memory that was allowed."""

import numpy as np
import pytest
from PIL import Image

from pathssl.errors import UserError
from pathssl.probes.images import ImageFiles, array_batches, load_image


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for k in range(7):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
        made.append(tmp_path / f"{k}.png")
    return made


def files(paths, cache_mib):
    return ImageFiles(paths, image_px=16, threads=2, cache_mib=cache_mib)


def test_an_image_of_the_right_size_is_not_touched(paths):
    assert np.array_equal(load_image(paths[0], 16), np.asarray(Image.open(paths[0])))


@pytest.mark.parametrize("shape", [(16, 31, 3), (31, 16, 3)])
def test_of_an_oblong_image_the_central_square_is_kept(tmp_path, shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    kept = load_image(tmp_path / "a.png", 16)
    assert np.array_equal(kept, image[:, 7:23] if shape[1] == 31 else image[7:23])


def test_shrinking_is_antialiased(tmp_path):
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8)).save(tmp_path / "a.png")
    assert np.abs(load_image(tmp_path / "a.png", 16).astype(int) - 127.5).max() < 3


def test_grey_and_transparent_images_come_as_three_colours(tmp_path):
    Image.new("L", (16, 16), 7).save(tmp_path / "grey.png")
    Image.new("RGBA", (16, 16), (7, 8, 9, 255)).save(tmp_path / "alpha.png")
    assert load_image(tmp_path / "grey.png", 16).shape == load_image(tmp_path / "alpha.png", 16).shape == (16, 16, 3)


@pytest.mark.parametrize("cache_mib", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_are_the_files_in_order_each_time(paths, cache_mib, batch_size):
    expected = np.stack([np.asarray(Image.open(path)) for path in paths])
    images = files(paths, cache_mib)
    for _ in range(2):
        assert np.array_equal(np.concatenate(list(images.batches(batch_size))), expected)


def test_a_set_that_fits_is_decoded_once_and_a_larger_one_each_time(paths):
    small, large = files(paths, 1), files(paths, 7 * 16 * 16 * 3 / 2**20 - 1e-6)
    for images in (small, large):
        list(images.batches(2))
    paths[3].unlink()
    assert len(np.concatenate(list(small.batches(2)))) == 7
    with pytest.raises(UserError, match=r"3\.png"):
        list(large.batches(2))


def test_a_pass_that_was_left_early_is_not_kept(paths):
    images = files(paths, 1)
    next(images.batches(2))
    assert len(np.concatenate(list(images.batches(2)))) == 7


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_broken_image_is_named(paths, content):
    paths[2].write_bytes(paths[2].read_bytes()[:100] if content is None else content)
    with pytest.raises(UserError, match=r"2\.png cannot be decoded"):
        list(files(paths, 1).batches(4))


def test_an_array_is_cut_into_batches_without_loss():
    array = np.arange(7 * 2 * 2 * 3, dtype=np.uint8).reshape(7, 2, 2, 3)
    parts = list(array_batches(array, 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate(parts), array)
