"""Copies are found whatever was done to them; other tissue is not taken for a copy."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pathssl.leakage.copies import find_copies
from pathssl.leakage.fingerprint import WAYS, fingerprints

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "labelled_lc25000_lung"


def jpeg(picture, quality=60):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def laid(picture, way):
    transposed, rows, columns = way
    picture = picture.transpose(1, 0, 2) if transposed else picture
    picture = picture[::-1] if rows else picture
    return np.ascontiguousarray(picture[:, ::-1] if columns else picture)


@pytest.fixture(scope="module")
def patches(cohort):
    """(N, 64, 64, 3) of the synthetic cohort's labelled patches, all of them of other places."""
    files = sorted((cohort / "labelled").rglob("*.png"))
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_laid_any_way_and_encoded_at_jpeg_60_is_found_at_its_place(patches, way):
    copied = [5, 40, 77]
    others = fingerprints([np.stack([jpeg(laid(patches[k], way)) for k in copied])])
    found = find_copies(others, fingerprints([patches]))
    assert list(zip(found.rows.tolist(), found.columns.tolist(), strict=True)) == list(enumerate(copied))
    assert found.similarity.min() > 0.95


def test_other_sizes_are_found(patches):
    small = Image.fromarray(patches[9]).resize((40, 40), Image.Resampling.BICUBIC)
    found = find_copies(fingerprints([np.asarray(small)[None]]), fingerprints([patches]))
    assert found.columns.tolist() == [9]


def test_other_patches_of_the_same_tissues_raise_no_alarm(patches):
    assert len(find_copies(fingerprints([patches]))) == 0
    half = len(patches) // 2
    assert len(find_copies(fingerprints([patches[:half]]), fingerprints([patches[half:]]))) == 0


def test_glass_is_no_copy_of_glass():
    glass = np.full((3, 64, 64, 3), 242, np.uint8) + np.random.default_rng(0).integers(0, 3, (3, 64, 64, 3), np.uint8)
    assert len(find_copies(fingerprints([glass]))) == 0


def test_within_a_set_each_pair_is_told_once(patches):
    found = find_copies(fingerprints([np.concatenate([patches[:6], patches[2:4, ::-1]])]))
    assert list(zip(found.rows.tolist(), found.columns.tolist(), strict=True)) == [(2, 6), (3, 7)]


def test_nothing_against_nothing_is_nothing(patches):
    assert len(find_copies(fingerprints([]), fingerprints([patches]))) == 0


@pytest.mark.skipif(not REAL.is_dir(), reason="the real patches are not here: ../shared/data/labelled_lc25000_lung")
def test_real_patches_of_other_tiles_raise_no_alarm_and_their_copies_are_found():
    files = sorted(REAL.rglob("*.jp*g"))[::40][:60]
    real = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    assert len(find_copies(fingerprints([real]))) == 0
    found = find_copies(fingerprints([np.stack([jpeg(picture[:, ::-1]) for picture in real])]), fingerprints([real]))
    assert found.rows.tolist() == found.columns.tolist() == list(range(len(real)))
