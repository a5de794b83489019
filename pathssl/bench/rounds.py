"""Speeds measured in alternating rounds, so that whatever else the machine does falls on all contenders alike."""

import importlib.util
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pathssl.environment import describe_environment

_PACKAGES = ("cucim", "imagecodecs", "numpy", "openslide", "tifffile", "torch", "torchvision", "wsistream")


@dataclass(frozen=True)
class Contender:
    """Something whose speed is measured: `measure(round)` gives it, in `unit`."""

    name: str
    setting: str
    unit: str
    measure: Callable[[int], float]


@dataclass
class Figures:
    """What was measured: a row per contender, with its value in every round."""

    contenders: list[Contender] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, setting: str, unit: str, values: Sequence[float]) -> None:
        """A row that follows from others, round by round."""
        self.contenders.append(Contender(name, setting, unit, lambda number: values[number]))
        self.values[name] = list(values)

    def ratio(self, over: str, under: str) -> float | None:
        """The median of the rounds' own ratios, which a drift of the machine's speed moves less than a ratio of medians."""
        if over not in self.values or under not in self.values:
            return None
        return statistics.median(a / b for a, b in zip(self.values[over], self.values[under], strict=True))

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "name": contender.name,
                "setting": contender.setting,
                "value": float(f"{self.median(contender.name):.4g}"),
                "unit": contender.unit,
                "min": float(f"{min(self.values[contender.name]):.4g}"),
                "max": float(f"{max(self.values[contender.name]):.4g}"),
            }
            for contender in self.contenders
        ]


def alternate(contenders: Sequence[Contender], rounds: int) -> Figures:
    """Every contender measured once a round; each round begins with another one."""
    figures = Figures(list(contenders), {contender.name: [] for contender in contenders})
    with tqdm(total=rounds * len(contenders), desc="bench", disable=not sys.stderr.isatty()) as bar:
        for number in range(rounds):
            start = number % len(contenders)
            for contender in (*contenders[start:], *contenders[:start]):
                bar.set_postfix_str(contender.name)
                figures.values[contender.name].append(contender.measure(number))
                bar.update()
    return figures


def report(what: str, figures: Figures, ratios: dict[str, float | None], missing: dict[str, str], **more: Any) -> dict:
    """The answer of the verb. A ratio whose peer is missing is left out."""
    if not can_pin():
        missing = {
            **missing,
            "one core": "this system cannot tie processes to cores; what says one core may have used more",
        }
    return {
        "what": what,
        "machine": machine(),
        "rounds": len(next(iter(figures.values.values()))),
        **more,
        "rows": figures.rows(),
        "ratios": {key: round(value, 3) for key, value in ratios.items() if value is not None},
        "ratio": "median of the rounds' own ratios",
        "missing": missing,
    }


def table(answer: dict[str, Any], advice: Sequence[str]) -> str:
    """The answer to be read: rows, ratios, what was missing, advice."""
    width = max(len(row["name"]) for row in answer["rows"])
    lines = [
        f"{row['name']:{width}}  {row['value']:>8,.4g} {row['unit']:11} ({row['min']:,.4g} to {row['max']:,.4g})  {row['setting']}"
        for row in answer["rows"]
    ]
    lines += ["", *(f"{key:{width}}  {value:8.2f} x" for key, value in answer["ratios"].items())]
    lines += [f"not measured: {name}: {reason}" for name, reason in answer["missing"].items()]
    return "\n".join([*lines, "", *advice])


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    known = describe_environment()
    packages = {name: version for name, version in known["packages"].items() if name.startswith(_PACKAGES)}
    facts = {key: known[key] for key in ("cpu", "cpu_cores", "gpus", "platform", "python", "cuda", "commit")}
    return {**facts, "changed": bool(known["diff"]), "packages": packages}


def can_pin() -> bool:
    return hasattr(os, "sched_setaffinity") and Path("/proc/self/task").is_dir()


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def cores(count: int) -> list[int] | None:
    """`count` of this process's logical CPUs that lie on different physical cores; None where there are not so many."""
    if not can_pin():
        return list(range(count)) if (os.cpu_count() or 1) >= count else None
    chosen, taken = [], set()
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = siblings.read_text().strip() if siblings.is_file() else str(cpu)
        if core not in taken:
            chosen.append(cpu)
            taken.add(core)
    return chosen[:count] if len(chosen) >= count else None


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """All threads of this process, and the processes that it starts meanwhile, run on `cpus` only (where a system can)."""
    if not can_pin():
        yield
        return
    before = os.sched_getaffinity(0)
    _set_affinity(cpus)
    try:
        yield
    finally:
        _set_affinity(before)


def _set_affinity(cpus: Sequence[int] | set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():  # libraries keep threads that Python does not know of
        try:
            os.sched_setaffinity(int(thread.name), cpus)
        except ProcessLookupError:  # it ended meanwhile
            continue
