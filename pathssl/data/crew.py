"""Who reads units: worker processes that are replaced when they die, or this process alone."""

import gc
import logging
from collections import Counter, deque
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection, wait
from signal import SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV

from pathssl.data.patches import PatchReader, Unreachable
from pathssl.data.unit import Memory, Unit
from pathssl.errors import UserError
from pathssl.slides.slide import SlideError
from pathssl.worker import Worker, WorkerDied

log = logging.getLogger(__name__)

WORK = "pathssl.data.crew:work"  # what a worker runs
_DEATHS_OF_A_PATCH = 2  # then it counts as damaged; once may have been a neighbour's fault
_DEATHS_OF_A_UNIT = 6  # without a patch to blame: then the run stops, as the machine seems to be at fault
_LIMIT_S = 1800.0  # without a sign of any worker: a decoder that hangs is ended like one that crashes
# What a decoder does to its process on damaged data. Other signals come from outside, most often for want of memory.
_CRASHES = tuple(f"signal {int(number)}" for number in (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL))

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

    Units are dealt out in turn when a slot is started, so that nobody has to listen while the model trains. A slot gives a worker one
    message at most, and so few are on their way that no pipe can fill.

    A worker that dies is replaced, and what it had to do is done again, patch by patch. A patch whose reading crashes the process twice
    is one that cannot be decoded, and is replaced as such; when workers die of something else, the run stops with a sentence.
    """

    def __init__(self, reader: PatchReader, memory: Memory, workers: int):
        self.reader, self.memory = reader, memory
        self.todo: list[deque[Unit]] = [deque() for _ in range(workers)]
        self.turns = cycle(range(workers))
        self.left: Counter[int] = Counter()  # units of each slot that are not done
        self.faults: dict[int, Faults] = {}
        self.deaths: Counter = Counter()
        self.workers: list[Worker] = []
        try:
            for _ in range(workers):
                self.workers.append(Worker(WORK, memory.descriptors))
            for number in range(workers):  # once all have begun to start: sending waits for the other end
                self._brief(number)
        except OSError:
            self.close()
            raise

    def start(self, slot: int, units: list[Unit]) -> None:
        assert len(units) <= len(self.workers)
        self.left[slot], self.faults[slot] = len(units), []
        for unit in units:
            number = next(self.turns)
            self.todo[number].append(unit)
            self.workers[number].send((unit, False))

    def finish(self, slot: int) -> Faults:
        """The patches that were replaced, by number; the slot is complete then. Unreachable, SlideError or RuntimeError where a worker
        gave up.
        """
        while self.left[slot]:
            busy = {self.workers[number].connection: number for number, todo in enumerate(self.todo) if todo}
            heard = wait(list(busy), timeout=_LIMIT_S)
            for connection in heard:
                self._hear(busy[connection])
            if not heard:
                for number in busy.values():
                    self._replace(number, f"it gave no sign for {_LIMIT_S:g} s", blame=True)
        return sorted(self.faults.pop(slot), key=lambda fault: fault[0])  # a patch's own draws stay in their order

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
            if death.traceback:
                raise RuntimeError(f"A worker could not read patches:\n{death.traceback}") from None
            self._replace(number, str(death), blame=str(death) in _CRASHES)

    def _brief(self, number: int) -> None:
        self.memory.marks[number] = -1
        self.workers[number].send((self.reader, self.memory, number))

    def _replace(self, number: int, how: str, blame: bool) -> None:
        """A new process for one that ended; `blame`: the patch that it was reading may be why."""
        patch = tuple(map(int, self.memory.marks[number]))
        self.workers[number].kill()
        if self.todo[number]:
            self._count_death(self.todo[number][0], patch if blame else (-1, -1), how)
            log.warning("A worker that reads patches ended (%s); another one takes over its work.", how)
        self.workers[number] = Worker(WORK, self.memory.descriptors)
        self._brief(number)
        for place, waiting in enumerate(self.todo[number]):
            self.workers[number].send((waiting, place == 0))

    def _count_death(self, unit: Unit, patch: tuple[int, int], how: str) -> None:
        self.deaths[unit] += 1
        if min(patch) >= 0:
            self.deaths[patch] += 1
            if self.deaths[patch] == _DEATHS_OF_A_PATCH:
                self.reader.broken[patch] = f"reading it ends the process ({how})"
                self.deaths[unit] = 0
        if self.deaths[unit] == _DEATHS_OF_A_UNIT:
            cure = " Lower loader.workers, loader.prefetch or loader.open_slides." if how == "signal 9" else ""
            raise RuntimeError(
                f"Workers that read the patches of step {unit.steps[0] + 1} died {_DEATHS_OF_A_UNIT} times, the last of {how}"
                f"{' (killed, mostly for want of memory)' if cure else ''}.{cure} Repeat the command to resume."
            )


@dataclass(frozen=True)
class Failure:
    """Why a worker gave up."""

    error: type[Exception]
    text: str


def work(connection: Connection) -> None:
    """A worker's life: reads the units that come through the pipe, until it closes. What is not foreseen ends the process."""
    try:
        reader, memory, number = connection.recv()
        reader.mark = memory.marks[number]
        gc.freeze()  # what is there now stays: no need to look through it for garbage again and again
        while True:
            unit, singly = connection.recv()
            connection.send(unit.read(reader, memory, singly))
    except (Unreachable, SlideError, UserError) as error:
        connection.send(Failure(type(error), str(error)))
