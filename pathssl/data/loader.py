"""Batches of raw uint8 patches, prepared ahead by worker processes, in order.

The workers are spawned, not forked (no inherited threads), never import torch (cuCIM must come first, and start-up stays short) and
write into shared memory, so that a batch crosses processes without being pickled.
"""

import multiprocessing
import os
import queue
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from pathssl.data.patches import Patches, PatchReader
from pathssl.slides.slide import SlideError

_POLL_S = 2.0


@dataclass(frozen=True)
class Batch:
    """Step `step`'s patches of this process, and the seconds that the trainer waited for them."""

    step: int
    patches: Patches
    waited_s: float


class Loader:
    """Yields the batches of steps first ... last - 1. Batch `step` holds patches step * batch_size ... (step + 1) * batch_size - 1.

    workers: processes; 0 reads in this one. prefetch: batches that each worker prepares ahead.
    """

    def __init__(self, reader: PatchReader, *, batch_size: int, workers: int, prefetch: int):
        self.reader, self.batch_size, self.workers, self.prefetch = reader, batch_size, workers, max(1, prefetch)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        if self.workers == 0:
            for step in range(first, last):
                start = time.perf_counter()
                patches = self.reader.read(self._indices(step))
                yield Batch(step, patches, time.perf_counter() - start)
            self.reader.close()
        else:
            yield from self._from_workers(first, last)

    def _indices(self, step: int) -> np.ndarray:
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)

    def _from_workers(self, first: int, last: int) -> Iterator[Batch]:
        context = multiprocessing.get_context("spawn")
        size = self.reader.sampler.patch_px
        shape = (self.batch_size, size, size, 3)
        slots = min(self.workers * self.prefetch, max(1, last - first))
        memory = [SharedMemory(create=True, size=int(np.prod(shape))) for _ in range(slots)]
        todo, done = context.Queue(), context.Queue()
        processes = [
            context.Process(
                target=_work, args=(self.reader, shape, [m.name for m in memory], todo, done, os.getpid()), daemon=True
            )
            for _ in range(self.workers)
        ]
        try:
            for process in processes:
                process.start()
            for slot, step in enumerate(range(first, min(first + slots, last))):
                todo.put((step, self._indices(step), slot))
            ready: dict[int, tuple[int, Patches]] = {}
            for step in range(first, last):
                start = time.perf_counter()
                while step not in ready:
                    arrived, slot, draws, replaced, error = self._receive(done, processes)
                    if error is not None:
                        raise RuntimeError(f"A worker could not read the patches of step {arrived}:\n{error}")
                    ready[arrived] = slot, Patches(np.ndarray(shape, np.uint8, memory[slot].buf), draws, replaced)
                slot, patches = ready.pop(step)
                batch = Batch(
                    step, Patches(patches.pixels.copy(), patches.draws, patches.replaced), time.perf_counter() - start
                )
                del patches
                if step + slots < last:
                    todo.put((step + slots, self._indices(step + slots), slot))
                yield batch
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()
            ready = {}
            for block in memory:
                block.unlink()
                block.close()

    @staticmethod
    def _receive(done: multiprocessing.Queue, processes: list) -> tuple:
        while True:
            try:
                return done.get(timeout=_POLL_S)
            except queue.Empty:
                for process in processes:
                    if not process.is_alive():
                        raise RuntimeError(
                            f"A worker that reads patches died (exit code {process.exitcode}; -9 means killed, often for memory). "
                            "Repeat the command to resume; loader.workers=0 reads in the training process."
                        ) from None


def _work(reader: PatchReader, shape: tuple, names: list[str], todo, done, parent: int) -> None:
    """A worker's life: steps in, patches into shared memory, until the parent is gone."""
    done.cancel_join_thread()  # when the trainer is gone nobody reads the queue, and waiting for that would keep this process for ever
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # meant for the trainer, which ends its workers itself
    memory = [SharedMemory(name=name) for name in names]
    arrays = [np.ndarray(shape, np.uint8, block.buf) for block in memory]
    while os.getppid() == parent:
        try:
            step, indices, slot = todo.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        try:
            patches = reader.read(indices, arrays[slot])
            done.put((step, slot, patches.draws, patches.replaced, None))
        except (SlideError, ValueError, OSError, RuntimeError, ArithmeticError, LookupError, MemoryError):
            done.put((step, slot, None, None, traceback.format_exc()))
