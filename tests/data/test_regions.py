import math
from collections import defaultdict

import numpy as np
import pytest
from fake_index import disc, fake_index
from scipy import stats

from pathssl.data.regions import Region, shared
from pathssl.data.sampling import Draws, Sampler
from pathssl.errors import UserError
from pathssl.slides.resample import reach

B, PATCH_PX = 6, 224
FOUR = Region(patches=4, width=2.0, chunk_batches=4)
TWELVE_IN_THREES = Region(patches=3, width=2.0, chunk_batches=12)
SINGLE = Region(patches=1, width=1.0, chunk_batches=1)


@pytest.fixture(scope="module")
def slides(index):
    return fake_index(index, [disc(50, 70), disc(70, 50), disc(60, 60)])


def sampler(index, *, mpp=0.25, region=FOUR, **changes) -> Sampler:
    arguments = {"slides": np.arange(len(index)), "patch_px": PATCH_PX, "min_tissue": 0.4, "batch_size": B}
    return Sampler(index, mpp=[mpp], weight=[1.0], region=region, **(arguments | changes))


def by_region(draws: Draws) -> list[np.ndarray]:
    """The rows of each region."""
    rows = defaultdict(list)
    for row, region in enumerate(draws.region.tolist()):
        rows[region].append(row)
    return [np.array(of_one) for of_one in rows.values()]


def tiles_read(index, k: int, corner0: float, mpp: float, side0: int, tile: int) -> tuple[int, int]:
    """The first and the last tile along an axis (of side0 level-0 pixels) from which a patch is made, as `Slide.read` does it."""
    (level,), (ratio,) = index.source(np.array([k]), np.array([mpp]))
    downsample = index.downsamples[k, level]
    x = corner0 / downsample
    if ratio == 1 and abs(x - round(x)) < 1e-3:
        first, end = round(x), round(x) + PATCH_PX
    else:
        before, behind = reach(x - math.floor(x), ratio, PATCH_PX)
        first, end = math.floor(x) + before, math.floor(x) + behind
    return max(first, 0) // tile, (min(end, math.ceil(side0 / downsample)) - 1) // tile


@pytest.mark.parametrize("region", [FOUR, TWELVE_IN_THREES])
def test_a_region_gives_one_patch_to_each_of_several_batches_of_a_chunk_all_in_one_row(slides, region):
    in_chunk = region.chunk_batches * B
    draws = sampler(slides, region=region).sample(0, np.arange(5 * in_chunk))
    regions = by_region(draws)
    assert len(regions) == 5 * in_chunk // region.patches
    for rows in regions:
        assert len(rows) == region.patches
        assert len(set(rows // B)) == region.patches
        assert len(set(rows % B)) == len(set(rows // in_chunk)) == 1
        assert len(set(draws.slide[rows])) == len(set(draws.mpp[rows])) == 1


def test_which_batches_share_a_region_changes_from_row_to_row(slides):
    """Of 12 batches in threes, two share a region of a row with probability 2/11."""
    chunks = 300
    draws = sampler(slides, region=TWELVE_IN_THREES).sample(0, np.arange(chunks * 12 * B))
    together = np.zeros((12, 12), int)
    for rows in by_region(draws):
        batch = rows // B % 12
        together[np.ix_(batch, batch)] += 1
    pairs = together[np.triu_indices(12, 1)]
    # Rows are independent; the pairs of a row are not, but their counts have the binomial's variance at most.
    assert np.abs(pairs - chunks * B * 2 / 11).max() < 4.5 * math.sqrt(chunks * B * 2 / 11 * 9 / 11)


@pytest.mark.parametrize("rows", [range(0, 2), range(2, 6), range(5, 6)])
def test_a_worker_that_reads_some_rows_of_a_chunk_has_whole_regions_and_the_same_patches(slides, rows):
    drawn = sampler(slides, region=TWELVE_IN_THREES)
    whole = drawn.sample(0, np.arange(12 * B, 24 * B))
    indices = np.concatenate([np.array(rows) + step * B for step in range(12, 24)])
    part = drawn.sample(0, indices)
    for name in ("slide", "x0", "y0", "region", "views_seed"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[indices - 12 * B])
    assert {len(of_one) for of_one in by_region(part)} == {3}


# What a patch of 224 px at mpp is read from, and so how many tiles of 256 px its regions may be wide.
@pytest.mark.parametrize(
    ("mpp", "downsamples", "width", "tiles"),
    [
        (0.25, (1, 4), 2.0, 2),  # 448 px
        (0.25, (1, 4), 4.6, 5),  # 1030
        (0.5, (1, 4), 2.0, 4),  # 896, resampled
        (0.4, (1, 4), 2.0, 3),  # 717, resampled
        (0.39, (1, 1.5), 2.0, 2),  # 466, 4 % finer than the level
        (1.0, (1, 4), 2.0, 2),
        (1.0, (1, 3.9987), 2.0, 2),  # between the pixels of the level
        (0.98, (1, 4), 2.0, 2),  # 439
        (1.3, (1, 3.9987), 2.0, 3),  # 583, both
    ],
)
def test_the_patches_of_a_region_are_made_from_a_window_of_few_whole_tiles(index, mpp, downsamples, width, tiles):
    slides = fake_index(index, [disc(50, 70), disc(70, 50), disc(60, 60)], downsamples=downsamples)
    drawn = sampler(slides, mpp=mpp, region=Region(patches=4, width=width, chunk_batches=4), min_tissue=0.2)
    draws = drawn.sample(0, np.arange(1200))
    widths = []
    for rows in by_region(draws):
        for corners, sides in ((draws.x0, slides.width), (draws.y0, slides.height)):
            k = int(draws.slide[rows[0]])
            read = [tiles_read(slides, k, corners[row], mpp, sides[k], 256) for row in rows]
            widths.append(max(last for _, last in read) - min(first for first, _ in read) + 1)
    assert max(widths) == tiles
    assert np.mean(np.array(widths) == tiles) > 0.4  # four patches do not always reach both edges


def test_a_region_no_wider_than_a_patch_is_the_tiles_that_its_anchor_needs(slides):
    draws = sampler(slides, region=Region(patches=4, width=1.0, chunk_batches=4)).sample(0, np.arange(800))
    counts = set()
    for rows in by_region(draws):
        k = int(draws.slide[rows[0]])
        read = [tiles_read(slides, k, draws.x0[row], 0.25, slides.width[k], 256) for row in rows]
        anchor = read[int(np.argmin(_member(rows)))]
        assert all(anchor[0] <= first and last <= anchor[1] for first, last in read)
        counts.add(anchor[1] - anchor[0] + 1)
    assert counts == {1, 2}


def _member(indices: np.ndarray) -> np.ndarray:
    return shared(0, indices, B, FOUR)[1]


@pytest.mark.parametrize("mpp", [0.25, 0.4])
def test_anchors_lie_where_single_patches_do(slides, mpp):
    indices = np.arange(12_000)
    regions, single = (
        sampler(slides, mpp=mpp).sample(0, indices),
        sampler(slides, mpp=mpp, region=SINGLE).sample(1, indices),
    )
    anchors = _member(indices) == 0
    assert anchors.sum() == 3000
    for name in ("x0", "y0"):
        ours, theirs = getattr(regions, name)[anchors], getattr(single, name)
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
        assert stats.ks_2samp(ours % 256, theirs % 256).pvalue > 1e-3
    counts = [
        np.histogramdd((d.slide, d.x0, d.y0), bins=(3, 5, 5))[0].ravel()
        for d in (single, Draws(*(getattr(regions, f)[anchors] for f in Draws.__dataclass_fields__)))
    ]
    counts = np.array(counts)[:, np.sum(counts, axis=0) >= 20]
    assert stats.chi2_contingency(counts).pvalue > 1e-3


def test_every_patch_of_a_region_has_enough_tissue_even_at_the_tissue_s_edge(index):
    """Strips of tissue half as wide as a region: most positions in a region have too little."""
    strips = np.zeros((60, 60), np.uint8)
    strips[:, 1::8] = 255
    slides = fake_index(index, [strips])
    draws = sampler(slides, min_tissue=0.6).sample(0, np.arange(2000))
    assert (index_overlap(slides, draws) >= 0.6).all()
    positions = [{(int(draws.x0[row]), int(draws.y0[row])) for row in rows} for rows in by_region(draws)]
    assert np.mean([len(of_one) for of_one in positions]) > 3.8  # they do not all fall back on the anchor


def test_patches_fall_back_on_their_anchor_where_nothing_else_has_tissue(index):
    """The only cell with tissue is as large as a patch, which must be all tissue."""
    lone = np.zeros((60, 60), np.uint8)
    lone[10, 10] = 255
    slides = fake_index(index, [lone], downsamples=(64,))
    draws = sampler(slides, mpp=16.0, patch_px=4, min_tissue=1.0).sample(0, np.arange(400))
    assert (index_overlap(slides, draws, 4) == 1).all()
    assert set(draws.x0.tolist()) == set(draws.y0.tolist()) == {10 * 256}


def index_overlap(index, draws: Draws, size: int = PATCH_PX) -> np.ndarray:
    return index.overlaps(draws.slide, draws.x0, draws.y0, draws.mpp, size)


def test_members_are_uniform_over_their_window_and_windows_over_the_anchors_surroundings(index):
    """On a slide that is all tissue, away from its edges."""
    slides = fake_index(index, [np.full((120, 120), 255, np.uint8)])
    indices = np.arange(700 * 4 * B)
    draws = sampler(slides).sample(0, indices)
    member = _member(indices)
    frames = []
    for rows in by_region(draws):
        (anchor,) = rows[member[rows] == 0]
        if 1024 < draws.x0[anchor] < 120 * 256 - 1024:
            frames.append((draws.x0[anchor], *draws.x0[rows[member[rows] > 0]]))
    x = np.array(frames)
    assert len(x) > 3500
    one_tile = x[x[:, 0] % 256 <= 256 - PATCH_PX]  # the window may begin with this tile, or with the one before
    offset = one_tile[:, 1:] - one_tile[:, :1] // 256 * 256
    assert offset.min() >= -256 and offset.max() <= 512 - PATCH_PX
    begins_before = (offset < 0).any(axis=1)
    # A window that begins with the tile before shows it, but for the chance that its three patches all begin in the anchor's tile.
    assert stats.binomtest(int(begins_before.sum()), len(offset), 0.5 * (1 - (33 / 289) ** 3)).pvalue > 1e-3
    two_tiles = x[x[:, 0] % 256 > 256 - PATCH_PX]
    offset = (two_tiles[:, 1:] - two_tiles[:, :1] // 256 * 256).ravel()
    assert (np.unique(offset) == np.arange(512 - PATCH_PX + 1)).all()
    assert stats.chisquare(np.bincount(offset, minlength=512 - PATCH_PX + 1)).pvalue > 1e-3


def test_a_replaced_patch_leaves_its_region_and_is_drawn_by_itself(slides):
    indices = np.arange(48)
    replaced = sampler(slides).sample(0, indices, redraw=2)
    assert replaced.region.tolist() == [-1 - i for i in range(48)]
    alone = sampler(slides, region=SINGLE).sample(0, indices, redraw=2)
    for name in ("slide", "x0", "y0", "views_seed"):
        np.testing.assert_array_equal(getattr(replaced, name), getattr(alone, name))


def test_slides_smaller_than_a_region_or_a_patch_still_give_patches(index):
    for cells in (2, 5, 9):
        slides = fake_index(index, [np.full((cells, cells), 255, np.uint8)])
        draws = sampler(slides, min_tissue=0.2, mpp=0.5).sample(0, np.arange(100))
        most = max(0, cells * 256 - PATCH_PX * 2)
        assert draws.x0.min() == 0 and draws.y0.min() == 0 and draws.x0.max() <= most and draws.y0.max() <= most


def test_single_patches_are_their_own_regions_and_a_chunk_is_a_batch(slides):
    single = sampler(slides, region=SINGLE)
    assert single.chunk_batches == 1
    assert single.sample(0, np.array([5, 3, 8])).region.tolist() == [5, 3, 8]
    assert sampler(slides, region=TWELVE_IN_THREES).chunk_batches == 12


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"patches": 0, "width": 2.0, "chunk_batches": 4}, "patches must be a whole number"),
        ({"patches": 2.5, "width": 2.0, "chunk_batches": 5}, "patches must be a whole number"),
        ({"patches": 4, "width": 0.5, "chunk_batches": 4}, "width is in patch widths"),
        ({"patches": 4, "width": float("nan"), "chunk_batches": 4}, "width is in patch widths"),
        ({"patches": 4, "width": 2.0, "chunk_batches": 2}, "such as 4 or 8"),
        ({"patches": 4, "width": 2.0, "chunk_batches": 6}, "multiple of region.patches"),
        ({"patches": 1, "width": 1.0, "chunk_batches": 0}, "multiple of region.patches"),
    ],
)
def test_regions_that_make_no_sense_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Region(**settings)
