"""Two runs side by side: what differs between them that may matter, then their metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathssl import metric_keys, records
from pathssl.errors import UserError, some
from pathssl.report import words
from pathssl.report.study import Run, read_run
from pathssl.report.tables import flatten, is_bookkeeping, shown

# Of other packages a version changes no number here.
_PACKAGES = (
    "numpy", "scipy", "scikit-learn", "scikit-image", "torch", "torchvision", "timm", "numba", "pillow", "imagecodecs", "tifffile",
    "openslide-python", "openslide-bin", "cucim-cu12", "cucim-cu13",
)  # fmt: skip
_HARDWARE = ("cpu", "cpu_cores", "gpus", "cuda", "platform", "processes", "python")
_DATA = (
    "slides",
    "training_slides",
    "cases",
    "sites",
    "tissue_mm2",
    "usable_slides",
    "held_out",
    "too_coarse",
    "quarantined",
)
_MOST = 12  # names that a list is written out with
_NONE = "—"


@dataclass(frozen=True)
class Difference:
    """One thing that the two runs do not have in common, as people read it; "—" where one has it not."""

    what: str
    first: str
    second: str


@dataclass(frozen=True)
class Pair:
    """`differences` {"config", "code", "packages", "data", "hardware"}, each a list; `metrics` {key: (first, second)} at `patches` seen."""

    runs: tuple[Run, Run]
    differences: dict[str, list[Difference]]
    patches: float | None
    metrics: dict[str, tuple[float, float]]


def compare_runs(first: Path, second: Path) -> Pair:
    """UserError where one of them is no run."""
    runs = (_run(first), _run(second))
    environments = tuple(run.environment or {} for run in runs)
    packages = tuple(
        {name: found["packages"].get(name) for name in _PACKAGES} if found.get("packages") else {}
        for found in environments
    )
    differences = {
        "config": _differences(*(_settings(run) for run in runs)),
        "code": _code(*environments),
        "packages": _differences(*packages),
        "data": _differences(*({key: (run.data or {}).get(key) for key in _DATA} for run in runs)) + _tasks(*runs),
        "hardware": _differences(*({key: found.get(key) for key in _HARDWARE} for found in environments)),
    }
    patches = _common(*runs)
    return Pair(runs, differences, patches, {} if patches is None else _metrics(*runs, patches))


def _run(folder: Path) -> Run:
    if not (folder / "config.yaml").is_file():
        raise UserError(f"There is no run in {folder}: give two runs' folders, outputs/<study>/<arm>/seed<k>.")
    return read_run(folder)


def _settings(run: Run) -> dict[str, Any]:
    kept = {key: value for key, value in flatten(run.config).items() if not is_bookkeeping(key)}
    return {"seed": run.seed, **kept}


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    found = []
    for key in dict.fromkeys([*first, *second]):
        here, there = first.get(key), second.get(key)
        if here != there or (key in first) != (key in second):
            found.append(Difference(key, *_pair(here, there, key in first, key in second)))
    return [one for one in found if one.first != one.second]  # paths are shown alike


def _pair(here: Any, there: Any, in_first: bool, in_second: bool) -> tuple[str, str]:
    """Of two lists, what is in one of them alone."""
    if isinstance(here, list) and isinstance(there, list) and len(here) + len(there) > 4:
        alone = ([one for one in here if one not in there], [one for one in there if one not in here])
        return tuple(
            f"{len(whole)}, of these alone {some(own, _MOST) or 'none'}"
            for whole, own in zip((here, there), alone, strict=True)
        )
    return shown(here) if in_first else _NONE, shown(there) if in_second else _NONE


def _code(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    found = _differences(*({"commit": of.get("commit")} for of in (first, second)))
    changed = [of.get("diff") or "" for of in (first, second)]
    if changed[0] != changed[1]:
        said = [
            f"{words.plural(len(diff.splitlines()), 'line')} of uncommitted changes" if diff else "as committed"
            for diff in changed
        ]
        found.append(Difference("working tree", *said))
    return found


def _tasks(first: Run, second: Run) -> list[Difference]:
    """Of the tasks' images and how they are shown; which tasks there are is in the config."""
    both = [records.read_json(run.folder / "tasks.json") or {} for run in (first, second)]
    names = [name for name in both[0] if name in both[1]]
    return _differences(*(flatten({f"task {name}": of[name] for name in names}) if names else {} for of in both))


def _common(first: Run, second: Run) -> float | None:
    """The last point that both have been probed at, in patches seen."""
    points = set(first.probed) & set(second.probed)
    return max(points) if points else None


def _metrics(first: Run, second: Run, patches: float) -> dict[str, tuple[float, float]]:
    found = {}
    for key in sorted(first.series.keys() & second.series.keys()):
        if key.startswith(("probe/", "unsupervised/")) and not metric_keys.of_null(key):
            pair = first.series[key].at(patches), second.series[key].at(patches)
            if None not in pair:
                found[key] = pair
    return found


def pair_text(pair: Pair) -> str:
    """The same, to be read."""
    first, second = pair.runs
    lines = [f"1  {first.folder}  ({first.state})", f"2  {second.folder}  ({second.state})"]
    for kind, found in pair.differences.items():
        lines += ["", f"{kind}: {'no difference' if not found else ''}".rstrip()]
        lines += [f"  {one.what}: {one.first}  |  {one.second}" for one in found]
    if pair.patches is None:
        return "\n".join([*lines, "", "metrics: there is no checkpoint that both were probed at."])
    lines += ["", f"metrics after {words.count(pair.patches)} patches, 2 minus 1:"]
    width = max(map(len, pair.metrics), default=0)
    for key, (here, there) in pair.metrics.items():
        digits = words.decimals((abs(here), abs(there)))
        numbers = f"{words.number(here, digits)}  {words.number(there, digits)}  {words.signed(there - here, digits)}"
        lines.append(f"  {key:{width}}  {numbers}")
    lines.append(
        "Two runs say nothing of the noise between seeds: `python -m pathssl report` on several seeds of each does."
    )
    return "\n".join(lines)
