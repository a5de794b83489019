import numpy as np
import pytest
from PIL import Image

from pathssl import sources
from pathssl.cli import compose
from pathssl.gallery import coarse_patches, draw_gallery, draw_slide, rejected_patches


@pytest.fixture
def data(small):
    return sources.Data(compose([*small, "magnification=10x_20x"]))


def test_rejected_patches_say_how_much_tissue_they_have_and_how_much_is_needed(data):
    found = rejected_patches(data, 8)
    reasons = [reason.split("\n")[1] for _, reason in found]
    assert len(found) == 8 and all(reason.endswith("% tissue, 40% needed") for reason in reasons)
    shares = [int(reason.split("%")[0]) for reason in reasons]
    assert max(shares) < 40 and shares[0] > 20 and shares[-1] < 5  # from nearly enough to none
    assert all(pixels.shape == (40, 40, 3) for pixels, _ in found)


def test_slides_that_are_too_coarse_are_shown_and_said(small, cohort, tmp_path):
    assert coarse_patches(sources.Data(compose(small)), 8) == []
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("slide,mpp\ncase_001.tif,2.0\n")
    data = sources.Data(compose([*small, f"data.path={cohort / 'slides'}", f"data.manifest={manifest}"]))
    [(pixels, reason)] = coarse_patches(data, 8)
    assert reason == "slide too coarse:\n2 µm/px, 1 asked" and pixels.shape == (40, 40, 3)
    [path] = data.describe()["too_coarse"]
    assert data.index.mpp[data.index.paths.index(path)] == 2 and data.describe()["training_slides"] == len(
        data.training_slides
    )
    assert path not in {data.index.paths[k] for k in data.training_slides}


def test_a_slide_s_picture_pales_the_glass_and_marks_each_patch_where_it_lies(data):
    k = int(data.training_slides[0])
    none = data.sampler.sample(0, np.arange(0))
    draws = data.sampler.sample(0, np.arange(60))
    bare, marked = (np.asarray(draw_slide(data, k, some)).astype(int) for some in (none, draws))
    side = 720
    assert bare.shape[1] == side
    changed = np.abs(bare[:side] - marked[:side]).sum(axis=-1) > 0
    scale = side / (data.index.width[k] * data.index.mpp[k])
    on_it = np.flatnonzero(draws.slide == k)
    assert len(on_it) > 3
    for i in on_it:
        left, top = (int(corner[i] * data.index.mpp[k] * scale) for corner in (draws.x0, draws.y0))
        right = int(left + 40 * draws.mpp[i] * scale)
        assert changed[top - 2 : top + 3, (left + right) // 2].any()  # its upper edge
    boxes = np.zeros_like(changed)
    for i in on_it:
        left, top = (int(corner[i] * data.index.mpp[k] * scale) for corner in (draws.x0, draws.y0))
        far = int(40 * draws.mpp[i] * scale)
        boxes[max(0, top - 4) : top + far + 5, max(0, left - 4) : left + far + 5] = True
    assert not (changed & ~boxes).any()


def test_the_page_shows_every_picture_and_names_what_is_left_aside(small, cohort, tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    for path in (cohort / "slides").glob("*.tif"):
        (slides / path.name).symlink_to(path)
    (slides / "b<b>ad.tif").write_bytes(b"")
    config = compose([*small, f"data.path={slides}", "data.manifest=null", f"cache_dir={tmp_path / 'cache'}"])
    page = draw_gallery(config, tmp_path / "gallery", 2)
    text = page.read_text()
    pictures = sorted(path.name for path in page.parent.glob("*.png"))
    assert len([name for name in pictures if name.startswith("slide_")]) == 2
    assert all(text.count(f'src="{name}"') == 1 for name in pictures)
    assert text.count("<img") == text.count(' alt="') - text.count(' alt=""') == len(pictures)
    assert "b&lt;b&gt;ad.tif" in text and "the file is empty" in text and "<b>ad" not in text
    assert "held out" in text
    assert all(Image.open(page.parent / name).size[0] > 100 for name in pictures)
