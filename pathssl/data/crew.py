"""Who reads units: worker processes that are replaced when they die, or this process alone."""

import gc
import logging
import traceback
from collections import Counter, deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from pathssl.data.patches import PatchReader, Unreachable
from pathssl.data.unit import Memory, Unit
from pathssl.errors import UserError
from pathssl.slides.slide import SlideError
from pathssl.worker import Worker, WorkerDied

log = logging.getLogger(__name__)

WORK = "pathssl.data.crew:work"  # what a worker runs
_DEATHS_OF_A_PATCH = 2  # then it counts as damaged; once may have been the machine's fault (memory)
_DEATHS_OF_A_UNIT = 6  # then the run stops: the machine, not a slide, seems to be at fault

Faults = list[tuple[int, str, str]]


class Alone:
    """Reads in this process, when asked for."""

    def __init__(self, reader: PatchReader, memory: Memory):
        self.reader, self.memory = reader, memory
        self.units: dict[int, list[Unit]] = {}

    def start(self, slot: int, units: list[Unit]) -> None:
        self.units[slot] = units

    def finish(self, slot: int) -> Faults:
        """The patches that were replaced; the slot is complete then."""
        return [fault for unit in self.units.pop(slot) for fault in unit.read(self.reader, self.memory)]

    def close(self) -> None:
        self.reader.close()
        self.memory.close()


class Crew:
    """`workers` processes, each of which reads the units given to it in order.

    A worker that dies is replaced, and what it had to do is done again, patch by patch. A patch whose reading ends the process twice is
    one that cannot be decoded, and is replaced as such; when a unit cannot be read in many lives, the run stops with a sentence.
    """

    def __init__(self, reader: PatchReader, memory: Memory, workers: int):
        self.reader, self.memory = reader, memory
        self.todo: list[deque[Unit]] = [deque() for _ in range(workers)]
        self.left: Counter[int] = Counter()  # units of each slot that are not done
        self.faults: dict[int, Faults] = {}
        self.deaths: Counter = Counter()
        self.workers: list[Worker] = []
        for number in range(workers):
            self.workers.append(self._hire(number))

    def start(self, slot: int, units: list[Unit]) -> None:
        self.left[slot], self.faults[slot] = len(units), []
        for unit in units:
            number = min(range(len(self.workers)), key=lambda number: len(self.todo[number]))
            self.todo[number].append(unit)
            self.workers[number].send((unit, False))

    def finish(self, slot: int) -> Faults:
        """The patches that were replaced; the slot is complete then. Unreachable, SlideError or RuntimeError where a worker gave up."""
        while self.left[slot]:
            busy = {self.workers[number].connection: number for number, todo in enumerate(self.todo) if todo}
            for connection in wait(list(busy)):
                self._hear(busy[connection])
        return self.faults.pop(slot)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.memory.close()

    def _hear(self, number: int) -> None:
        try:
            for done in self.workers[number].answers():
                if isinstance(done, Failure):
                    raise done.error(done.text)
                unit = self.todo[number].popleft()
                self.left[unit.slot] -= 1
                self.faults[unit.slot] += done
        except WorkerDied as death:
            self._replace(number, str(death))

    def _hire(self, number: int) -> Worker:
        self.memory.marks[number] = -1
        worker = Worker(WORK, self.memory.descriptors)
        worker.send((self.reader, self.memory, number))
        return worker

    def _replace(self, number: int, how: str) -> None:
        if not self.todo[number]:
            self.workers[number] = self._hire(number)
            return
        unit, patch = self.todo[number][0], tuple(map(int, self.memory.marks[number]))
        self.workers[number].kill()
        self.deaths[unit] += 1
        self.deaths[patch] += 1
        if self.deaths[unit] == _DEATHS_OF_A_UNIT:
            raise RuntimeError(
                f"Workers that read the patches of step {unit.steps[0] + 1} died {_DEATHS_OF_A_UNIT} times, the last of {how} (signal 9: "
                "killed, mostly for memory: lower loader.workers, loader.prefetch or loader.open_slides). Repeat the command to resume."
            )
        log.warning("A worker that reads patches ended (%s); another one takes over its work.", how)
        if patch[0] >= 0 and self.deaths[patch] == _DEATHS_OF_A_PATCH:
            self.reader.broken[patch] = f"reading it ends the process ({how})"
        self.workers[number] = self._hire(number)
        for place, waiting in enumerate(self.todo[number]):
            self.workers[number].send((waiting, place == 0))


@dataclass(frozen=True)
class Failure:
    """Why a worker gave up."""

    error: type[Exception]
    text: str


def work(connection: Connection) -> None:
    """A worker's life: reads the units that come through the pipe, until it closes."""
    reader, memory, number = connection.recv()
    reader.mark = memory.marks[number]
    gc.freeze()  # what is there now stays: no need to look through it for garbage again and again
    while True:
        unit, singly = connection.recv()
        try:
            done = unit.read(reader, memory, singly)
        except (Unreachable, SlideError, UserError) as error:
            done = Failure(type(error), str(error))
        except (ValueError, OSError, RuntimeError, ArithmeticError, LookupError, TypeError, MemoryError):
            done = Failure(
                RuntimeError,
                f"A worker could not read the patches of step {unit.steps[0] + 1}:\n{traceback.format_exc()}",
            )
        connection.send(done)
