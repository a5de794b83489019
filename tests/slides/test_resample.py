"""The antialiasing triangle filter, against Pillow's and against the formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pathssl.slides.resample import reach, resample

NOISE = np.random.default_rng(0).integers(0, 256, (260, 240, 3), dtype=np.uint8)


def resampled(window, x, y, ratio, width, height):
    out = np.empty((height, width, 3), np.uint8)
    resample(window, int(y), int(x), (y - int(y), x - int(x)), ratio, out)
    return out


def by_the_formula(window, x, y, ratio, width, height):
    """float64, dense matrices: rows, then columns."""

    def weights(start, size, length):
        support = max(ratio, 1.0)
        centre = start + (np.arange(size) + 0.5) * ratio
        w = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centre[:, None]) / support)
        return w / w.sum(1, keepdims=True)

    rows, columns = weights(y, height, window.shape[0]), weights(x, width, window.shape[1])
    return np.einsum("ih,jw,hwc->ijc", rows, columns, window.astype(np.float64), optimize=True)


boxes = st.tuples(st.floats(0.96, 6.0), st.floats(0, 30), st.floats(0, 30), st.integers(1, 32), st.integers(1, 32))


@settings(max_examples=150, deadline=None)
@given(boxes)
def test_it_is_the_formula_rounded(box):
    ratio, x, y, width, height = box
    exact = by_the_formula(NOISE, x, y, ratio, width, height)
    assert np.abs(resampled(NOISE, x, y, ratio, width, height) - exact).max() <= 0.5 + 1e-3


@settings(max_examples=150, deadline=None)
@given(boxes)
def test_it_is_pillows_resize_within_one_grey_level(box):
    ratio, x, y, width, height = box
    corners = (x, y, x + width * ratio, y + height * ratio)
    theirs = np.array(Image.fromarray(NOISE).resize((width, height), Image.Resampling.BILINEAR, box=corners))
    ours = resampled(NOISE, x, y, ratio, width, height)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("ratio", [0.96, 1.0, 1.6, 2.0, 3.7])
@pytest.mark.parametrize("grey", [0, 1, 127, 254, 255])
def test_a_plain_colour_stays_what_it_is(ratio, grey):
    assert (resampled(np.full((99, 99, 3), grey, np.uint8), 5.3, 7.9, ratio, 16, 16) == grey).all()


@settings(max_examples=60, deadline=None)
@given(boxes, st.integers(0, 4), st.integers(0, 4))
def test_only_the_pixels_within_reach_count(box, more_left, more_right):
    ratio, x, y, width, height = box
    x, y = x + 8, y + 8
    whole = resampled(NOISE, x, y, ratio, width, height)
    (left, right), (top, bottom) = reach(x - int(x), ratio, width), reach(y - int(y), ratio, height)
    left, right, top, bottom = int(x) + left, int(x) + right, int(y) + top, int(y) + bottom
    cut_left, cut_top = max(0, left - more_left), max(0, top - more_left)
    cut = np.ascontiguousarray(NOISE[cut_top : bottom + more_right, cut_left : right + more_right])
    assert right <= NOISE.shape[1] and bottom <= NOISE.shape[0]
    out = np.empty((height, width, 3), np.uint8)
    resample(cut, int(y) - cut_top, int(x) - cut_left, (y - int(y), x - int(x)), ratio, out)
    np.testing.assert_array_equal(out, whole)
