"""What the run folders of a study say, read once and held in arrays."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from pathssl import metric_keys, probe_records, records
from pathssl.errors import UserError
from pathssl.report import words
from pathssl.report.leaks import MARK, Overlaps, copies_text, is_of, leaks_text

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C where PyYAML has it: several times faster
_NAMED = 8  # studies in a sentence
_KEPT = ("probe/", "unsupervised/")
_KEPT_EXACTLY = {"train/loss", "train/patches_per_s", "train/data_wait", "time_s"}


@dataclass(frozen=True)
class Series:
    """One metric of one run: `values` at `patches` seen, both float64 (n,), in order; nulls are left out."""

    patches: np.ndarray
    values: np.ndarray

    def at(self, patches: float) -> float | None:
        """The value measured exactly there, or None."""
        found = np.flatnonzero(self.patches == patches)
        return float(self.values[found[-1]]) if len(found) else None


@dataclass(frozen=True)
class Run:
    """One run folder; files that are not written yet are None or empty."""

    folder: Path
    arm: str
    seed: int
    config: dict
    status: dict | None
    environment: dict | None
    data: dict | None
    tasks: dict | None
    coverage: dict | None
    series: dict[str, Series]
    compute: dict | None = None

    @property
    def state(self) -> str:
        """The state of status.json, or "not started"."""
        return self.status["state"] if self.status else "not started"

    @property
    def untrained(self) -> bool:
        """Whether the run only probes what it begins with (train.patches=0)."""
        return (self.config.get("train") or {}).get("patches") == 0

    @property
    def probed(self) -> list[float]:
        """The patches seen at each checkpoint that any probe has a number for, in order."""
        points = [series.patches for key, series in self.series.items() if key.startswith(_KEPT)]
        return np.unique(np.concatenate(points)).tolist() if points else []


@dataclass(frozen=True)
class Study:
    """All runs of a folder, and what its experiment file asked for."""

    name: str
    folder: Path
    runs: list[Run]
    question: str | None
    expectation: str | None
    baseline: str
    metrics: list[str]
    primary: str | None
    family: list[str]  # metrics whose differences are told from zero together: the verdicts are of these
    notices: list[str] = field(default_factory=list)
    leaks: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by arm: tasks that were trained on in part

    @property
    def arms(self) -> list[str]:
        """The names of the arms: the baseline first, then as people count."""
        return sorted({run.arm for run in self.runs}, key=lambda arm: (arm != self.baseline, records.natural(arm)))

    def of(self, arm: str) -> list[Run]:
        """The runs of an arm, by seed."""
        return [run for run in self.runs if run.arm == arm]

    def keys(self, *starts: str) -> list[str]:
        """The metrics that any run has and that begin with one of `starts`, sorted."""
        return sorted({key for run in self.runs for key in run.series if key.startswith(starts)})


def read_study(folder: Path) -> Study:
    """The study in `folder`: outputs/<study>, one of its arms, or a single run."""
    folder = Path(folder)
    runs = [read_run(path) for path in _found(folder)]
    arms = sorted({run.arm for run in runs}, key=records.natural)
    asked = next((run.config["report"] for run in runs if run.config.get("report")), {})
    notices = []
    baseline = called(asked.get("baseline"), arms)
    if baseline is not None and baseline not in arms:
        alike = _having(baseline, arms)
        why = f"may be any of {', '.join(alike)}" if alike else "has no run here yet"
        notices.append(f"The baseline {baseline} {why}; arms are compared with {(alike or arms)[0]} instead.")
        baseline = (alike or arms)[0]
    elif baseline is None and len(arms) > 1:
        notices.append(f"The study names no baseline; arms are compared with its first, {arms[0]}.")
    measured = sorted({key for run in runs for key in run.series if key.startswith(_KEPT)})
    wanted = [*filter(None, [asked.get("primary")]), *(asked.get("family") or []), *(asked.get("metrics") or [])]
    metrics, missing = _metrics(asked.get("metrics") or [], measured), [key for key in wanted if key not in measured]
    if missing and measured and ("question" in asked or set(metrics) <= set(asked.get("metrics") or [])):
        # else they are the scale's, which nobody asked for, and other tasks are probed
        notices.append(f"Asked for, but measured in no run: {', '.join(dict.fromkeys(missing))}.")
    primary = asked.get("primary")
    if primary in measured:
        metrics = [primary, *(key for key in metrics if key != primary)]
    family = [key for key in asked.get("family") or [] if key in measured] or metrics[:1]
    metrics += [key for key in family if key not in metrics]
    commits = {(run.environment or {}).get("commit") for run in runs} - {None}
    if len(commits) > 1:
        notices.append(f"The runs come from {len(commits)} commits of the code; see “Runs and how to repeat them”.")
    found = [(run.arm, records.read_leaks(run.folder)) for run in runs]
    leaks = {arm: frozenset(task for one, of in found if one == arm for task in of) for arm in arms}
    notices += leaks_text(_first_of_each(of for _, of in found), _where(leaks)) + copies_text(
        _first_of_each(records.read_copies(run.folder) for run in runs)
    )
    return Study(
        leaks=leaks,
        name=str(runs[0].config.get("study") or folder.absolute().name),
        folder=folder,
        runs=runs,
        question=asked.get("question"),
        expectation=asked.get("expectation"),
        baseline=baseline or arms[0],
        metrics=metrics,
        primary=metrics[0] if metrics else None,
        family=family,
        notices=notices,
    )


def called(baseline: str | None, arms: list[str]) -> str | None:
    """The arm that a study calls so, though more was typed for it; as it is where that is none, or several."""
    if baseline is None or baseline in arms:
        return baseline
    found = _having(baseline, arms)
    return found[0] if len(found) == 1 else baseline


def _having(baseline: str, arms: list[str]) -> list[str]:
    """The arms for which all was typed that the baseline's name has."""
    return [arm for arm in arms if {*baseline.split(",")} <= {*records.without_hash(arm).split(",")}]


def _first_of_each(found: Iterable[Overlaps]) -> dict[str, list[dict]]:
    """By task, as the first run has it that found something."""
    return {task: of[task] for of in reversed(list(found)) for task in of}


def _where(leaks: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """By task, the arms that have it, where these are not all."""
    arms = {task: [arm for arm, tasks in leaks.items() if task in tasks] for task in frozenset().union(*leaks.values())}
    return {task: ", ".join(of) for task, of in arms.items() if len(of) < len(leaks)}


def read_run(folder: Path) -> Run:
    """One run folder, whatever of it is there."""
    try:
        config = yaml.load((folder / "config.yaml").read_text(), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise UserError(f"{folder / 'config.yaml'} is not YAML: {error}") from error
    return Run(
        folder=folder,
        arm=records.arm_of(folder),
        seed=records.seed_of(folder),
        config=config or {},
        status=records.read_status(folder),
        environment=records.read_json(folder / "environment.json"),
        data=records.read_json(folder / "data.json"),
        tasks=records.read_json(folder / "tasks.json"),
        coverage=records.read_coverage(folder),
        series=_columns(probe_records.read_rows(folder)),
        compute=records.read_compute(folder),
    )


def _found(folder: Path) -> list[Path]:
    runs = records.find_runs(folder)
    if runs:
        return runs
    studies = _studies(folder)
    if studies:
        names = ", ".join(study.name for study in studies)
        raise UserError(f"{folder} holds several studies ({names}). Give one: {studies[0]}.")
    given = f"There are no runs in {folder}." if folder.is_dir() else f"There is no folder {folder}."
    raise UserError(
        f"{given} A study is a folder that holds its runs as <arm>/seed<k>/, each with a config.yaml in it, such as outputs/demo. {_here()}"
    )


def _studies(folder: Path) -> list[Path]:
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    return [child for child in children if child.is_dir() and records.find_runs(child)]


def _here() -> str:
    """A sentence on the studies under outputs/, where runs go unless output_dir says otherwise."""
    studies = [str(study) for study in _studies(Path("outputs"))]
    if not studies:
        return "There is none under outputs/ here; `python train.py experiment=demo -m` makes one."
    more = f" and {len(studies) - _NAMED} more" if len(studies) > _NAMED else ""
    return f"Here there {'is' if len(studies) == 1 else 'are'} {', '.join(studies[:_NAMED])}{more}."


def _columns(rows: list[dict]) -> dict[str, Series]:
    columns: dict[str, tuple[list, list]] = {}
    kept: dict[str, bool] = {}
    for row in rows:
        patches = row["patches_seen"]
        for key, value in row.items():
            if key not in kept:
                kept[key] = key in _KEPT_EXACTLY or key.startswith(_KEPT)
            if kept[key] and value is not None and math.isfinite(value):
                xs, ys = columns.setdefault(key, ([], []))
                xs.append(patches)
                ys.append(value)
    return {key: Series(np.asarray(xs, float), np.asarray(ys, float)) for key, (xs, ys) in columns.items()}


def _metrics(asked: list[str], measured: list[str]) -> list[str]:
    """What to compare of what is asked for; where no probe that is asked for was made, those that were."""
    found = [key for key in asked if key in measured]
    other_tasks = any(key.startswith("probe/") for key in asked) and not any(key.startswith("probe/") for key in found)
    return _sensible(measured) if other_tasks or not found else found


def _sensible(measured: list[str]) -> list[str]:
    """What to compare where no experiment file says: balanced accuracies and Dice on test sets, linear first; RankMe, ODCorr."""
    tests = [key for key in measured if key.startswith("probe/") and "/test/" in key and not metric_keys.of_null(key)]
    accuracies = [key for key in tests if key.endswith(("/test/balanced_accuracy", "/test/dice"))] or tests
    unlabelled = [key for key in ("unsupervised/rankme", "unsupervised/odcorr") if key in measured]
    return sorted(accuracies, key=lambda key: ("linear/" not in key, key)) + unlabelled


def leaked(study: Study, key: str, arm: str | None = None) -> bool:
    """Whether a metric is of a task that this arm trained on in part; without an arm: that all arms did that have the metric."""
    return arm in _leaking(study, key) if arm is not None else _leaking(study, key) == _measuring(study, key) != []


def mark(study: Study, key: str) -> str:
    """MARK where all arms that have the metric trained on its task in part, MARK and their names where some did, else empty."""
    arms = _leaking(study, key)
    return MARK if leaked(study, key) else f"{MARK} in {', '.join(arms)}" if arms else ""


def named(study: Study, key: str, arm: str) -> str:
    """The arm in short, for a row of a metric's table, with MARK where it trained on the metric's task in part."""
    return words.distinct_names(study.arms)[arm] + (f" — {MARK}" if leaked(study, key, arm) else "")


def _leaking(study: Study, key: str) -> list[str]:
    return [arm for arm in _measuring(study, key) if is_of(key, study.leaks.get(arm, ()))]


def _measuring(study: Study, key: str) -> list[str]:
    return [arm for arm in study.arms if any(key in run.series for run in study.of(arm))]


def initialised(config: dict) -> bool:
    """Whether the run began from weights that had learned something; else its step 0 is random weights itself."""
    init = config.get("init") or {}
    return bool(init.get("pretrained") or init.get("path"))
