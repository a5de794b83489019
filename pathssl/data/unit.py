"""What is read at a time, and the memory that it is read into."""

import math
import mmap
import os
import tempfile
from dataclasses import dataclass, fields

import numpy as np

from pathssl.data.patches import Patches, PatchReader
from pathssl.data.sampling import Draws

_KINDS = {"mpp": np.float64, "views_seed": np.uint64}
_DRAW = np.dtype([(column.name, _KINDS.get(column.name, np.int64)) for column in fields(Draws)])


@dataclass(frozen=True)
class Unit:
    """These rows of the batches of these steps, to be read into slot `slot`."""

    slot: int
    steps: range
    rows: range

    def read(self, reader: PatchReader, memory: "Memory", singly: bool = False) -> list[tuple[int, str, str]]:
        """The patches that were replaced; all others, and these, are in `memory` then."""
        places = [(step, row) for step in self.steps for row in self.rows]
        indices = np.array([step * reader.sampler.batch_size + row for step, row in places])
        patches = reader.read(indices, [memory.pixels_of(self.slot, *place) for place in places], singly=singly)
        memory.keep(self, patches.draws)
        return patches.replaced


class Memory:
    """Pixels and draws of `slots` chunks of `batches` batches, of which this process has the rows `rows`; and for each worker a mark that
    says which patch it is at (see `PatchReader`).

    It is shared with workers, which pickle it: files without a name, so that nothing stays when processes are killed, and no
    setting of the machine (such as the size of /dev/shm) limits it but its memory.
    """

    def __init__(self, *, slots: int, batches: int, rows: range, patch_px: int, workers: int):
        self.batches, self.rows = batches, rows
        places = (slots, batches, len(rows))
        self.kinds = (
            ((*places, patch_px, patch_px, 3), np.dtype(np.uint8)),
            (places, _DRAW),
            ((workers, 2), np.dtype(np.int64)),
        )
        self.descriptors = tuple(_unnamed_file(math.prod(shape) * kind.itemsize) for shape, kind in self.kinds)
        self._map()

    def _map(self) -> None:
        self.pixels, self.draws, self.marks = (
            np.ndarray(shape, kind, mmap.mmap(file, 0)) if math.prod(shape) else np.empty(shape, kind)
            for file, (shape, kind) in zip(self.descriptors, self.kinds, strict=True)
        )

    def __getstate__(self) -> dict:
        return {key: self.__dict__[key] for key in ("batches", "rows", "kinds", "descriptors")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._map()

    def pixels_of(self, slot: int, step: int, row: int) -> np.ndarray:
        """(P, P, 3) uint8: the place of one patch."""
        return self.pixels[slot, step % self.batches, row - self.rows.start]

    def keep(self, unit: Unit, draws: Draws) -> None:
        rows = slice(unit.rows.start - self.rows.start, unit.rows.stop - self.rows.start)
        for place, step in enumerate(unit.steps):
            of_step = slice(place * len(unit.rows), (place + 1) * len(unit.rows))
            for name in _DRAW.names:
                self.draws[unit.slot, step % self.batches, rows][name] = getattr(draws, name)[of_step]

    def patches(self, slot: int, step: int, replaced: list[tuple[int, str, str]]) -> Patches:
        """The batch of `step`, its pixels not copied."""
        records = self.draws[slot, step % self.batches]
        return Patches(
            self.pixels[slot, step % self.batches],
            Draws(**{name: records[name].copy() for name in _DRAW.names}),
            replaced,
        )

    def close(self) -> None:
        """Closes the files; the arrays live on as long as somebody looks at them."""
        for file in self.descriptors:
            os.close(file)


def _unnamed_file(length: int) -> int:
    """The descriptor of a file of `length` bytes in memory, or on disk where the system has no such files."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("pathssl")
    else:
        file, path = tempfile.mkstemp()
        os.unlink(path)
    os.ftruncate(file, length)
    return file
