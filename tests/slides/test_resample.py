"""The antialiasing triangle filter, against Pillow's and against the formula."""

import os
import subprocess
import sys
from pathlib import Path

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


def step_by_step(window, x, y, ratio, width, height):
    """In float32, a product and a sum at a time in numpy, in the order that the module gives: no fused operation hides here."""

    def weights(start, size):
        support, taps = max(ratio, 1.0), int(np.ceil(2 * max(ratio, 1.0)))
        centre = (start - int(start)) + (np.arange(size) + 0.5) * ratio
        first = np.floor(centre - support - 0.5).astype(int) + 1
        heights = np.maximum(0, 1 - np.abs(first[:, None] + np.arange(taps) + 0.5 - centre[:, None]) / support)
        total = np.add.accumulate(heights, axis=1)[:, -1:]
        return int(start) + first, (heights / total).astype(np.float32)

    (rows, row_weights), (columns, column_weights) = weights(y, height), weights(x, width)
    lines = np.zeros((height, window.shape[1], 3), np.float32)
    for k in range(row_weights.shape[1]):
        lines += row_weights[:, k, None, None] * window[rows + k].astype(np.float32)
    total = np.full((height, width, 3), 0.5, np.float32)
    for k in range(column_weights.shape[1]):
        total += column_weights[:, k, None] * lines[:, columns + k]
    return total.astype(np.uint8)


boxes = st.tuples(st.floats(0.96, 6.0), st.floats(0, 30), st.floats(0, 30), st.integers(1, 32), st.integers(1, 32))


@settings(max_examples=150, deadline=None)
@given(boxes)
def test_it_is_the_formula_rounded(box):
    ratio, x, y, width, height = box
    exact = by_the_formula(NOISE, x, y, ratio, width, height)
    assert np.abs(resampled(NOISE, x, y, ratio, width, height) - exact).max() <= 0.5 + 1e-3


@settings(max_examples=150, deadline=None)
@given(boxes)
def test_each_product_and_sum_is_rounded_by_itself_so_that_all_machines_agree(box):
    ratio, x, y, width, height = box
    box = x + 8, y + 8, ratio, width, height
    np.testing.assert_array_equal(resampled(NOISE, *box), step_by_step(NOISE, *box))


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


def test_where_nothing_can_be_kept_on_disk_the_process_compiles_for_itself():
    code = """
import numpy as np
from pathssl.slides.resample import resample
out = np.empty((4, 4, 3), np.uint8)
resample(np.full((9, 9, 3), 7, np.uint8), 2, 2, (0.5, 0.5), 1.0, out)
print((out == 7).all())
"""
    env = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}  # which serves files in archives only
    command = [sys.executable, "-c", code]
    repository = Path(__file__).resolve().parents[2]
    answer = subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, timeout=100, check=True)
    assert answer.stdout == "True\n"
