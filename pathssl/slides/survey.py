"""What the index wants to know of one slide, and worker processes that find it out for many.

Decoders may crash or hang on damaged files, so each worker is a process of its own: when it dies, its slide is tried
once more and then given up with the reason, and a new worker takes over. Workers start from this module, not from the
program that runs them: no torch, and cuCIM first.
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from pathssl.slides.fault import SlideError
from pathssl.slides.foreground import tissue_grid, tissue_mask
from pathssl.slides.remote.place import Place
from pathssl.slides.slide import Slide, open_slide
from pathssl.slides.structure import Structure
from pathssl.worker import Worker, WorkerDied

LIMIT_S = 1800.0  # for one slide; 100,000 px a side without a pyramid take about a minute from a local disk
WORK = "pathssl.slides.survey:work"  # what a worker runs
NO_TISSUE = "it has no tissue"
_ATTEMPTS = 2  # a worker may also die of its neighbours (memory)
_PROBES, _PROBE_PX = 3, 32  # windows a side that are read of each level, and their size


@dataclass(frozen=True)
class Job:
    """A slide to survey; `name` is what it is called in the answer."""

    name: str
    path: Path | Place
    mpp: float | None
    reader: str
    method: str
    thumbnail_mpp: float
    cell_um: float
    min_tissue: float


@dataclass(frozen=True)
class Finding:
    """mpp: um per level-0 pixel; tissue: (rows, columns) uint8, 255 = all tissue; structure: of the file."""

    mpp: float
    tissue: np.ndarray
    structure: Structure


@dataclass(frozen=True)
class Fault:
    """Why a slide cannot be used. `permanent`: it will not be tried again as long as the file stays what it is."""

    reason: str
    permanent: bool


def survey(job: Job) -> Finding | Fault:
    """Opens the slide, reads samples of all its levels and its thumbnail, and finds its tissue."""
    try:
        slide = open_slide(job.path, job.mpp, job.reader)
        try:
            _probe(slide)
            thumbnail_mpp = max(job.thumbnail_mpp, slide.mpp)
            mask = tissue_mask(slide.thumbnail(thumbnail_mpp), job.method)
        finally:
            slide.close()
    except SlideError as error:
        return Fault(str(error).removeprefix(f"{job.path}: "), permanent=True)
    except OSError as error:
        return Fault(f"it cannot be read now: {error}", permanent=False)
    rows, columns = (math.ceil(side * slide.mpp / job.cell_um) for side in (slide.height, slide.width))
    tissue = tissue_grid(mask, job.cell_um / thumbnail_mpp, rows, columns)
    return without_tissue(tissue, job.cell_um, job.min_tissue) or Finding(slide.mpp, tissue, slide.structure)


def without_tissue(tissue: np.ndarray, cell_um: float, min_tissue: float) -> Fault | None:
    """What is wrong with a slide of which no cell has enough tissue."""
    if (tissue >= min_tissue * 255).any():
        return None
    best = tissue.max() / 255
    return Fault(f"{NO_TISSUE}: no {cell_um:g} um cell has {min_tissue:.0%}, the best {best:.0%}", permanent=True)


def _probe(slide: Slide) -> None:
    """Reads small windows across each level, its last tile included; SlideError where one cannot be decoded."""
    for downsample in slide.downsamples:
        last_x, last_y = (max(0, int(side / downsample) - _PROBE_PX) for side in (slide.width, slide.height))
        for row in range(_PROBES):
            for column in range(_PROBES):
                x, y = last_x * column // (_PROBES - 1), last_y * row // (_PROBES - 1)
                slide.read(round(x * downsample), round(y * downsample), slide.mpp * downsample, _PROBE_PX)


def survey_all(jobs: list[Job], workers: int) -> Iterator[tuple[Job, Finding | Fault]]:
    """(job, what came out) as each is done, by `workers` processes; 0 works in this process, unprotected."""
    if workers == 0:
        yield from ((job, survey(job)) for job in jobs)
        return
    waiting = deque((job, 1) for job in jobs)
    crew = [_Surveyor() for _ in range(min(workers, len(jobs)))]
    try:
        while waiting or any(worker.job for worker in crew):
            for number, worker in enumerate(crew):
                if worker.dead:
                    crew[number] = worker = _Surveyor()
                if worker.job is None and waiting:
                    worker.give(*waiting.popleft())
            ready = wait([worker.connection for worker in crew if worker.job], timeout=1.0)
            for worker in crew:
                if worker.job is None:
                    continue
                job, attempt = worker.job, worker.attempt
                if worker.connection in ready:
                    if (answer := worker.answer()) is None:  # it only said something for the log
                        continue
                elif time.monotonic() - worker.started_s > LIMIT_S:
                    worker.kill()
                    answer, attempt = Fault(f"reading it took more than {LIMIT_S:g} s", permanent=True), _ATTEMPTS
                else:
                    continue
                if worker.dead and attempt < _ATTEMPTS:
                    waiting.append((job, attempt + 1))
                else:
                    yield job, answer
    finally:
        for worker in crew:
            worker.kill()


class _Surveyor:
    """One process that surveys one slide at a time."""

    def __init__(self):
        self._worker = Worker(WORK)
        self.connection = self._worker.connection
        self.job: Job | None = None
        self.attempt = 0
        self.started_s = 0.0
        self.dead = False

    def give(self, job: Job, attempt: int) -> None:
        self.job, self.attempt, self.started_s = job, attempt, time.monotonic()
        self._worker.send(job)

    def answer(self) -> Finding | Fault | None:
        """What came out, if it is there; where the process died over it, a Fault that says how."""
        try:
            for outcome in self._worker.answers():
                self.job = None
                return outcome
        except WorkerDied as error:
            self.job, self.dead = None, True
            return Fault(f"reading it ends the process ({error})", permanent=True)
        return None

    def kill(self) -> None:
        self.job, self.dead = None, True
        self._worker.kill()


def work(connection: Connection) -> None:
    """A worker's life: surveys what comes through the pipe until it closes."""
    while True:
        connection.send(survey(connection.recv()))
