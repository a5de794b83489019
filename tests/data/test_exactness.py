"""The patches of a run are the same bytes for any number of workers and ranks, on every reader, before and after a resume."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from pathssl.data.loader import Loader
from pathssl.data.patches import PatchReader
from pathssl.data.sampling import Region, Sampler
from pathssl.slides.index import build_index

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"
FOREGROUND = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 64.0, "min_tissue": 0.2}
PATCHES, BATCH = 2000, 40
REGIONS = {
    "single": Region(patches=1, width=1.0, chunk_batches=1),
    "four": Region(patches=4, width=2.0, chunk_batches=8),
}
pytestmark = pytest.mark.slow


@pytest.fixture
def slides(request, cohort):
    """JPEG slides; the synthetic ones are 0.5 um per pixel with levels, the real one 0.499 without."""
    if request.param == "real" and not SHARED.is_file():
        pytest.skip(f"the real slide is not here: {SHARED}")
    return cohort / "slides" if request.param == "synthetic" else SHARED


def _loader(slides, cache, name, *, reader="auto", workers=0, rank=0, world_size=1):
    index = build_index(slides, cache=cache, manifest=None, reader=reader, **FOREGROUND, workers=0, progress=False)
    sampler = Sampler(
        index,
        slides=np.arange(len(index)),
        mpp=[0.5, 0.8, 1.0, 1.3],  # read as they are, and resampled
        weight=[1, 1, 1, 1],
        patch_px=64,
        min_tissue=0.4,
        batch_size=BATCH,
        region=REGIONS[name],
    )
    return Loader(
        PatchReader(sampler, seed=3, open_slides=2), workers=workers, prefetch=3, rank=rank, world_size=world_size
    )


def _hashes(loader, first=0):
    """{number of the patch: hash of its pixels and of where it lies}."""
    found = {}
    for batch in loader.batches(first, PATCHES // BATCH):
        draws = batch.patches.draws
        for place, row in enumerate(loader.rows):
            where = [getattr(draws, name)[place] for name in ("slide", "x0", "y0", "mpp", "views_seed")]
            content = batch.patches.pixels[place].tobytes() + str(where).encode()
            found[batch.step * BATCH + row] = hashlib.sha256(content).hexdigest()
    return found


@pytest.mark.parametrize(("slides", "name"), [("synthetic", "single"), ("real", "four")], indirect=["slides"])
def test_the_first_2000_patches_are_the_same_bytes_however_they_are_read(slides, name, tmp_path):
    def made(**how):
        return _loader(slides, tmp_path, name, **how)

    base = _hashes(made())
    assert list(base) == list(range(PATCHES)) and len(set(base.values())) == PATCHES
    for workers in (1, 2, 5):
        assert _hashes(made(workers=workers)) == base, f"{workers} workers"
    for world_size in (2, 4):
        together = {}
        for rank in range(world_size):
            together |= _hashes(made(workers=rank % 2, rank=rank, world_size=world_size))
        assert together == base, f"{world_size} ranks"
    for reader in ("cucim", "openslide", "tifffile"):
        one = made(reader=reader)
        assert one.reader.sampler.index.open(0).reader == reader
        assert _hashes(one) == base, reader
    for step in (1, 13, 37):
        resumed = {index: text for index, text in base.items() if index >= step * BATCH}
        assert _hashes(made(workers=2), step) == resumed, f"resumed at step {step}"
