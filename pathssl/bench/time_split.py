"""Where the time of a step goes."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pathssl.training.step import Step


def time_split(
    step: Step, take: Callable[[], object], synchronise: Callable[[], None], steps: int, rounds: int
) -> dict[str, float]:
    """The shares of views, teacher, student and update in the time that `take`, a call of `step`.take, takes.

    Medians over rounds of `steps`. The device is waited for between the parts, so that each has its own time.
    """
    shares = []
    for _ in range(rounds):
        seconds = dict.fromkeys(("whole", "views", "teacher", "gradient"), 0.0)
        with ExitStack() as stack:
            for name, owner, method in (
                ("whole", step, "take"),
                ("gradient", step, "gradient"),
                ("views", step, "views"),
                ("teacher", step.objective, "targets"),
            ):
                stack.enter_context(_clocked(owner, method, synchronise, seconds, name))
            for _ in range(steps):
                take()
        parts = {
            "views": seconds["views"],
            "teacher": seconds["teacher"],
            "student": seconds["gradient"] - seconds["views"] - seconds["teacher"],
            "update": seconds["whole"] - seconds["gradient"],
        }
        shares.append({name: part / seconds["whole"] for name, part in parts.items()})
    return {name: round(statistics.median(share[name] for share in shares), 4) for name in shares[0]}


@contextmanager
def _clocked(
    owner: object, method: str, synchronise: Callable[[], None], seconds: dict[str, float], name: str
) -> Iterator[None]:
    """Inside, the time of `owner`'s method is added to seconds[name]."""
    inner, own = getattr(owner, method), method in vars(owner)

    def timed(*arguments: Any) -> Any:
        synchronise()
        start = time.perf_counter()
        outcome = inner(*arguments)
        synchronise()
        seconds[name] += time.perf_counter() - start
        return outcome

    setattr(owner, method, timed)
    try:
        yield
    finally:
        if own:
            setattr(owner, method, inner)
        else:
            delattr(owner, method)
