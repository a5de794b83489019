import base64
import io

import numpy as np
from fake_study import write_study
from PIL import Image

from pathssl.report.pictures import WIDTH_PX, embedded, strips
from pathssl.report.study import read_study


def png(width, seed=0):
    tiles = np.random.default_rng(seed).integers(0, 255, (64, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(tiles).save(buffer, "PNG")
    return buffer.getvalue()


def test_wide_pictures_are_made_smaller_and_say_their_true_size():
    content = png(4000)
    uri, width, height = embedded(content)
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert uri.startswith("data:image/webp;base64,")
    assert (width, height) == image.size == (WIDTH_PX, 26)
    assert len(uri) < len(content)


def test_a_picture_that_is_half_written_is_left_out():
    assert embedded(png(200)[:300]) is None


def test_each_arm_shows_its_own_picture_and_arms_with_the_same_one_share_it(tmp_path):
    folder = write_study(tmp_path / "demo", {"a=1": 0.0, "a=2": 0.0, "a=3": 0.0}, seeds=2, pictures=False)
    for arm, seed in (("a=1", 0), ("a=2", 0), ("a=3", 1)):
        (folder / arm / f"seed{seed}/pictures").mkdir()
        (folder / arm / f"seed{seed}/pictures/patches.png").write_bytes(png(100, seed))
    found = strips(read_study(folder), "patches.png")
    assert [(picture.arms, picture.seed) for picture in found] == [(["a=1", "a=2"], 0), (["a=3"], 1)]
