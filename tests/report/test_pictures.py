import base64
import io

import numpy as np
from fake_study import write_study
from PIL import Image

from pathssl.report.pictures import BUDGET, KINDS, WIDTH_PX, embedded, strips
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
    found, unseen = strips(read_study(folder))
    assert [(picture.arms, picture.seed) for picture in found["patches.png"]] == [(["a=1", "a=2"], 0), (["a=3"], 1)]
    assert (found["views.png"], found["tokens.png"], unseen) == ([], [], "")


def test_pictures_of_many_arms_stop_at_the_budget_and_the_rest_are_named(tmp_path):
    folder = write_study(tmp_path / "demo", {f"a={k:02}": 0.0 for k in range(40)}, seeds=1, pictures=False)
    for k in range(40):
        (folder / f"a={k:02}/seed0/pictures").mkdir()
        for i, name in enumerate(KINDS):
            (folder / f"a={k:02}/seed0/pictures" / name).write_bytes(png(1600, 3 * k + i))
    found, unseen = strips(read_study(folder))
    shown = [[picture.arms for picture in found[name]] for name in KINDS]
    assert shown[0] == shown[1] == shown[2]  # an arm is shown whole or not at all
    assert BUDGET * 0.8 < sum(len(picture.uri) for name in KINDS for picture in found[name]) <= BUDGET
    kept = len(shown[0])
    assert 5 < kept < 30
    assert unseen.startswith(f"Some pictures of a={kept:02}, ")
    assert f" and {40 - kept - 10} more are left out" in unseen
