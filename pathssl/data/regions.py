"""Several patches from one region of a slide, so that no tile is decoded twice: who shares a region, and where its patches may lie.

Patches of a region look alike, so they go to different batches: a chunk of C batches is drawn together, and each region gives one patch to
each of R of them. All stand in the same row of their batches, so that ranks and workers, which share a batch by rows, never split a region.
In each row of each chunk a random permutation says which batches share a region: with C > R neighbours share fewer of them, and with C = R
all batches of a chunk see the same regions.

The first patch of a region, its anchor, is drawn as a single patch is: what is sampled stays what it was. The region is a window of whole
tiles around it, chosen at random among those that fit, so that no content lies at a patch's edge more often than elsewhere.
"""

from dataclasses import dataclass

import numpy as np

from pathssl.data.frame import Frame
from pathssl.errors import UserError
from pathssl.seeding import uniforms

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Region:
    """patches: drawn from one region. width: its side in patch widths, rounded up to whole tiles. chunk_batches: that share regions."""

    patches: int
    width: float
    chunk_batches: int

    def __post_init__(self):
        given = f"region.patches={self.patches}, region.width={self.width}, region.chunk_batches={self.chunk_batches}"
        if type(self.patches) is not int or self.patches < 1:
            raise UserError(
                f"{given}: region.patches must be a whole number, at least 1, which draws each patch by itself."
            )
        if isinstance(self.width, bool) or not isinstance(self.width, int | float) or not self.width >= 1:
            raise UserError(f"{given}: region.width is in patch widths and must be at least 1.")
        if type(self.chunk_batches) is not int or self.chunk_batches < 1 or self.chunk_batches % self.patches:
            raise UserError(
                f"{given}: the patches of a region go to different batches of a chunk, so region.chunk_batches must be a multiple of "
                f"region.patches, such as {self.patches} or {2 * self.patches}."
            )

    @property
    def together(self) -> int:
        """Batches that are drawn and best read together: a chunk, or one where each patch is drawn by itself."""
        return self.chunk_batches if self.patches > 1 else 1


def shared(seed: int, indices: np.ndarray, batch_size: int, region: Region) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64 each: the number of the region that patch i comes from, and which of the region's patches it is (0: its anchor).

    Row p of chunk c has a permutation of the chunk's C batches; the first R batches in it share a region, then the next R, and so on.
    """
    chunk_batches = region.chunk_batches
    step, row = np.divmod(indices, batch_size)
    chunk, batch = np.divmod(step, chunk_batches)
    rows, which = np.unique(chunk * batch_size + row, return_inverse=True)
    permutation = np.argsort(uniforms(seed, "chunk", rows, chunk_batches), axis=1, kind="stable")
    place = np.argsort(permutation, axis=1)[which, batch]
    nth, member = np.divmod(place, region.patches)
    return rows[which] * (chunk_batches // region.patches) + nth, member


def span(frame: Frame, anchor: np.ndarray, width: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(least, greatest), both (N, 2): the corners, in level pixels, that the patches of regions around the corners `anchor` may have.

    A region is a window of whole tiles, at least `width` patches wide, that holds its anchor with all that the resampling filter reads
    beyond it; where none is large enough for that, one that holds the anchor. u (N, 2), uniform in [0, 1), chooses among such windows.
    """
    index, level = frame.index, (frame.slide, frame.level)
    tile = np.stack([index.tile_width[level], index.tile_height[level]], axis=1)
    length = np.stack([index.width[frame.slide], index.height[frame.slide]], axis=1) // frame.downsample[:, None]
    footprint = (frame.patch_px * frame.ratio)[:, None]
    # Corners are whole level-0 pixels, so that they lie between the pixels of a level whose downsample is not whole.
    exact = (frame.ratio == 1) & (frame.downsample == np.rint(frame.downsample))
    reach = np.where(exact, 0, np.ceil(np.maximum(frame.ratio, 1)))[:, None]

    def touched(reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first and the last tile of the slide that are read for the anchor."""
        end = np.minimum(np.ceil(anchor + footprint + reach - _ROUNDING), length)
        return np.maximum(anchor - reach, 0) // tile, np.maximum(end - 1, 0) // tile

    tiles = np.ceil(width * footprint / tile - _ROUNDING)
    first, last = touched(reach)
    reach = np.where(last - first < tiles, reach, 0)
    first, last = touched(reach)
    in_all = np.ceil(length / tile)
    tiles = np.minimum(np.maximum(tiles, last - first + 1), in_all)
    earliest, latest = np.maximum(last - tiles + 1, 0), np.minimum(first, in_all - tiles)
    start = earliest + np.floor(u * (latest - earliest + 1))
    end = start + tiles
    # At the slide's own edges there is nothing beyond to decode.
    least = np.where(start == 0, 0, start * tile + reach)
    greatest = np.where(end == in_all, np.inf, np.floor(end * tile - footprint - reach + _ROUNDING))
    return np.minimum(least, anchor), np.maximum(np.minimum(greatest, frame.greatest), anchor)
