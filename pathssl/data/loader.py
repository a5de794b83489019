"""Batches of raw uint8 patches, prepared ahead by worker processes, in order.

A chunk is the batches over which the patches of a region are spread (one batch where each patch is drawn by itself). It is read in units
of a few rows: the same rows of all its batches, hence whole regions. Workers read units straight into shared memory, so that a batch
crosses processes without being copied; ranks share a batch by rows in the same way.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pathssl.data.crew import Alone, Crew
from pathssl.data.patches import Patches, PatchReader
from pathssl.data.unit import Memory, Unit
from pathssl.errors import UserError

_UNIT_READS = (
    64  # fewer: sampling costs more for each patch; more: the first batch comes later, and workers wait for one another
)


@dataclass(frozen=True)
class Batch:
    """Step `step`'s patches of this process, valid until the next batch is asked for, and the seconds that were waited for them."""

    step: int
    patches: Patches
    waited_s: float


def kept_chunks(workers: int, prefetch: int, chunk_batches: int) -> int:
    """Chunks that a loader has memory for: the one in use, and as many as hold `prefetch` batches where workers prepare them."""
    return 1 + (math.ceil(prefetch / chunk_batches) if workers else 0)


class Loader:
    """Yields the batches of steps first ... last - 1; with B patches a batch, that of `step` has the patches step B ... (step + 1) B - 1.

    This process gets its `rank`'s equal share of the rows of each batch.
    workers: processes; 0 reads in this one. prefetch: batches that they prepare ahead, rounded up to whole chunks.
    """

    def __init__(self, reader: PatchReader, *, workers: int, prefetch: int, rank: int = 0, world_size: int = 1):
        batch_size = reader.sampler.batch_size
        if batch_size % world_size:
            raise UserError(
                f"A batch of {batch_size} patches cannot be shared equally by {world_size} processes: choose a batch size that "
                f"{world_size} divides."
            )
        share = batch_size // world_size
        self.reader, self.workers, self.prefetch = reader, workers, prefetch
        self.rows = range(rank * share, (rank + 1) * share)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        chunks = list(self._chunks(first, last))
        chunk_batches = self.reader.sampler.chunk_batches
        slots = max(1, min(len(chunks), kept_chunks(self.workers, self.prefetch, chunk_batches)))
        memory = Memory(
            slots=slots,
            batches=chunk_batches,
            rows=self.rows,
            patch_px=self.reader.sampler.patch_px,
            workers=self.workers,
        )
        crew = Crew(self.reader, memory, self.workers) if self.workers else Alone(self.reader, memory)
        try:
            for turn in range(slots if chunks else 0):
                crew.start(turn, self._units(turn, chunks[turn]))
            for turn, steps in enumerate(chunks):
                slot = turn % slots
                since = time.perf_counter()
                replaced = crew.finish(slot)
                waited_s = time.perf_counter() - since
                for step in steps:
                    own = [fault for fault in replaced if fault[0] // self.reader.sampler.batch_size == step]
                    yield Batch(step, memory.patches(slot, step, own), waited_s)
                    waited_s = 0.0
                if turn + slots < len(chunks):
                    crew.start(slot, self._units(slot, chunks[turn + slots]))
        finally:
            crew.close()

    def _chunks(self, first: int, last: int) -> Iterator[range]:
        """The steps first ... last - 1, cut where chunks begin."""
        size = self.reader.sampler.chunk_batches
        for start in range(first - first % size, last, size):
            yield range(max(first, start), min(last, start + size))

    def _units(self, slot: int, steps: range) -> list[Unit]:
        """The rows of these steps in parts of nearly equal size."""
        reads = len(self.rows) * len(steps) / self.reader.sampler.region.patches
        parts = min(len(self.rows), max(1, self.workers), math.ceil(reads / _UNIT_READS))
        bounds = [self.rows.start + len(self.rows) * part // parts for part in range(parts + 1)]
        return [Unit(slot, steps, range(*rows)) for rows in pairwise(bounds)]
