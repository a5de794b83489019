"""Slides on disk for the tests of this room."""

from collections.abc import Callable
from pathlib import Path

import pytest
from golden_slides import position_colours, tissue_pixels, write_pyramid


@pytest.fixture(scope="session")
def golden(tmp_path_factory) -> Path:
    """2048 x 1536 px at 0.25 um, levels 1, 4, 16, lossless; colours are `position_colours`."""
    path = tmp_path_factory.mktemp("golden") / "golden.tif"
    return write_pyramid(path, position_colours(2048, 1536), factors=(1, 4, 16))


@pytest.fixture
def cohort(tmp_path) -> Callable[..., Path]:
    """A function that writes a folder of n small JPEG slides with tissue."""

    def write(n: int, folder: str = "slides") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        for k in range(n):
            pixels = tissue_pixels(900, 700, seed=k)
            write_pyramid(tmp_path / folder / f"slide{k}.tif", pixels, mpp=0.5, compression="jpeg")
        return tmp_path / folder

    return write
