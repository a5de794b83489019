"""Which slides a study saw, and which it could not read: from coverage.json and data.json of its runs."""

from dataclasses import dataclass

import numpy as np

from pathssl.report import words
from pathssl.report.study import Run, Study

_NUMBERS = (
    "patches",
    "slides",
    "usable_slides",
    "cases",
    "sites",
    "tissue_mm2",
    "read_mm2",
    "times_over",
)


@dataclass(frozen=True)
class Covered:
    """What one arm saw, and all arms that saw the same: a row (means over `runs` runs) for each magnification, then the total."""

    arms: list[str]
    runs: int
    rows: list[dict]


@dataclass(frozen=True)
class Quarantine:
    """Slides that were left out for one reason, in the runs of `arms`."""

    reason: str
    slides: list[str]
    arms: list[str]


@dataclass(frozen=True)
class Replaced:
    """A slide on which draws failed while runs went on: how many, in how many runs of which arms, and the first reason."""

    slide: str
    draws: int
    runs: int
    arms: list[str]
    reason: str


@dataclass(frozen=True)
class Account:
    """All of it. `sentence` says how much was replaced; None where nothing was."""

    covered: list[Covered]
    quarantined: list[Quarantine]
    replaced: list[Replaced]
    sentence: str | None


def account(study: Study, compared: list[Run]) -> Account:
    """What became of the study's slides; coverage over the `compared` runs of each arm (all its runs if none is)."""
    failed = replaced(study)
    return Account(coverage(study, compared), quarantine(study), failed, _sentence(study, failed))


def coverage(study: Study, compared: list[Run]) -> list[Covered]:
    """What the arms saw by their last checkpoints."""
    found: list[Covered] = []
    for arm in study.arms:
        runs = [run for run in study.of(arm) if run.coverage and run.coverage["total"]["patches"]]
        runs = [run for run in runs if run in compared] or runs
        if not runs:
            continue
        rows = _means([run.coverage for run in runs])
        same = next((one for one in found if one.rows == rows and one.runs == len(runs)), None)
        if same:
            same.arms.append(arm)
        else:
            found.append(Covered([arm], len(runs), rows))
    return found


def _means(tables: list[dict]) -> list[dict]:
    """The rows of coverage.json, each number averaged; magnifications that gave no patch in any run are left out."""
    by_mpp: dict[float | tuple[float, ...] | None, list[dict]] = {}
    for table in tables:
        for row in table["magnifications"]:
            mpp = row["mpp"]  # or the ends of an interval
            by_mpp.setdefault(tuple(mpp) if isinstance(mpp, list) else mpp, []).append(row)
    by_mpp = {mpp: rows for mpp, rows in sorted(by_mpp.items()) if any(row["patches"] for row in rows)}
    if len(by_mpp) > 1:
        by_mpp[None] = [table["total"] for table in tables]
    return [{"mpp": mpp} | {name: _mean(rows, name) for name in _NUMBERS} for mpp, rows in by_mpp.items()]


def _mean(rows: list[dict], name: str) -> float:
    return float(np.mean([row[name] or 0.0 for row in rows]))


def quarantine(study: Study) -> list[Quarantine]:
    """The slides in quarantine, each once, by reason; the reason of most slides first."""
    arms: dict[tuple[str, str], list[str]] = {}
    for run in study.runs:
        for slide, reason in (run.data or {}).get("quarantined", []):
            _add(arms.setdefault((reason, slide), []), run.arm)
    slides: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, slide), of in arms.items():
        slides.setdefault((reason, tuple(of)), []).append(slide)
    found = [Quarantine(reason, sorted(names), list(of)) for (reason, of), names in slides.items()]
    return sorted(found, key=lambda one: (-len(one.slides), one.reason))


def replaced(study: Study) -> list[Replaced]:
    """The slides with failed draws, most of them first."""
    tallies: dict[str, dict] = {}
    for run in study.runs:
        for row in (run.coverage or {}).get("replaced", []):
            tally = tallies.setdefault(row["slide"], {"draws": 0, "runs": 0, "arms": [], "reason": row["reason"]})
            tally["draws"] += row["draws"]
            tally["runs"] += 1
            _add(tally["arms"], run.arm)
    found = [Replaced(slide, **tally) for slide, tally in tallies.items()]
    return sorted(found, key=lambda one: (-one.draws, one.slide))


def _sentence(study: Study, found: list[Replaced]) -> str | None:
    """How much failed, in words; None where nothing did."""
    if not found:
        return None
    draws = sum(one.draws for one in found)
    patches = sum(run.coverage["total"]["patches"] for run in study.runs if run.coverage)
    runs = sum(bool(run.coverage and run.coverage["replaced"]) for run in study.runs)
    share = f"{100 * draws / (patches + draws):.2g} % of all draws"
    many = f"{words.count(draws)} draw{'' if draws == 1 else 's'} on {words.plural(len(found), 'slide')}"
    return (
        f"{many} could not be decoded, in {runs} of {words.plural(len(study.runs), 'run')} ({share}). The next draw of the same "
        "patch was taken instead."
    )


def _add(arms: list[str], arm: str) -> None:
    if arm not in arms:
        arms.append(arm)
