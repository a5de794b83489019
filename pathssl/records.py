"""The files of a run folder that tell what happened, read and written in one place.

A run is `outputs/<study>/<arm>/seed<k>/`. The trainer writes, the report and `status` read; what probes write is probe_records.py's.
Readers take a folder at any moment of its life: what is not there yet comes back empty, and a line that a killed process left
half-written is not a line.
"""

import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from pathssl.errors import UserError
from pathssl.files import locked, write_atomic

STATES = ("queued", "running", "preempted", "finished", "failed")
_SEED = re.compile(r"seed(\d+)")
_STEP = re.compile(r"step_(\d+)")


# ---- folders


def find_runs(folder: Path) -> list[Path]:
    """The run folders of a study or an arm, or `folder` itself if it is a run, sorted by arm and seed.

    A run is a folder seed<k> with a config.yaml; deeper ones (W&B writes such files too) do not count.
    """
    folder = Path(folder)
    for place in (folder, folder.resolve()):  # where a link, or .., leads
        if _SEED.fullmatch(place.absolute().name) and (place / "config.yaml").is_file():
            return [place]
    configs = [*folder.glob("seed*/config.yaml"), *folder.glob("*/seed*/config.yaml")]
    runs = [config.parent for config in configs if _SEED.fullmatch(config.parent.name)]
    return sorted(runs, key=lambda run: (natural(arm_of(run)), seed_of(run)))


def arm_of(run: Path) -> str:
    """The arm's name, such as `teacher=m0.99`."""
    return Path(run).absolute().parent.name


def without_hash(arm: str) -> str:
    """The arm's name without what identity.arm_name appends where it had to cut or to replace."""
    return re.sub(r"-[0-9a-f]{8}$", "", arm)


def seed_of(run: Path) -> int:
    """The k of `seed<k>`."""
    match = _SEED.fullmatch(Path(run).absolute().name)
    if match is None:
        raise UserError(f"{run} is not a run folder: its name should be seed<k>, as in outputs/<study>/<arm>/seed0.")
    return int(match[1])


def natural(text: str) -> tuple:
    """A sort key in which m0.9 comes before m0.99 and b64 before b128."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return tuple((float(part), "") if i % 2 else (-1.0, part) for i, part in enumerate(parts))


# ---- config.yaml


def read_config(run: Path) -> dict | None:
    """Every resolved value of the run; None before there is a config.yaml."""
    path = Path(run) / "config.yaml"
    if not path.is_file():
        return None
    try:
        return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error


# ---- metrics.jsonl


def append_metrics(run: Path, row: Mapping[str, object]) -> None:
    """Adds one line to metrics.jsonl and flushes it. Numbers that JSON has no word for (NaN, infinity) become null."""
    missing = [key for key in ("step", "patches_seen") if key not in row]
    if missing:
        raise KeyError(f"a row of metrics needs {' and '.join(missing)}; this one has {sorted(row)}")
    line = json.dumps({key: plain(value) for key, value in row.items()}, allow_nan=False)
    path = Path(run) / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_metrics(run: Path) -> list[dict]:
    """The rows of metrics.jsonl in the order of writing; [] if there is none yet. A half last line is left out."""
    path = Path(run) / "metrics.jsonl"
    if not path.is_file():
        return []
    content = path.read_bytes()
    lines = [line for line in content[: content.rfind(b"\n") + 1].split(b"\n") if line]
    try:
        return json.loads(
            b"[" + b",".join(lines) + b"]"
        )  # one call for the whole file is faster than one for each line
    except ValueError as error:
        raise UserError(_complaint(path, content)) from error


def cut_metrics(run: Path, step: int) -> None:
    """Keeps the lines of metrics.jsonl up to and including `step`, so that a run resumed there writes no step twice.

    To be called on every resume, with -1 when it starts afresh: it also drops the half line of a killed process.
    """
    path = Path(run) / "metrics.jsonl"
    if path.is_file():
        kept = [row for row in read_metrics(run) if row["step"] <= step]
        write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept))


def plain(value: object) -> object:
    """`value` as JSON can hold it: scalars of NumPy and torch become Python's, NaN and infinities None."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _complaint(path: Path, content: bytes) -> str:
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            json.loads(line or b"0")
        except ValueError:
            return f"{path}: line {number} is not one JSON object: {line[:80]!r}. Remove that line."
    return f"{path}: not a file of JSON lines."


# ---- status.json


def write_status(
    run: Path,
    state: str,
    *,
    step: int,
    total_steps: int,
    patches_seen: int,
    host: str | None,
    job_id: str | None,
    error: str | None,
    started: str | None = None,
    starts: int | None = None,
    timeouts: int | None = None,
) -> None:
    """Replaces status.json. `error` is the traceback's text of a run that failed, else None.

    `started`: when the process was started that now has the run; `starts`: how many have had it; `timeouts`: how many of these were
    stopped because their job's time was over. None leaves what stands there.
    """
    if state not in STATES:
        raise ValueError(f"state {state!r} is unknown; a run is one of {', '.join(STATES)}")
    before = read_status(run) or {}
    status = {
        "state": state,
        "step": step,
        "total_steps": total_steps,
        "patches_seen": patches_seen,
        "updated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": host,
        "job_id": job_id,
        "error": error,
        "started": started or before.get("started"),
        "starts": before.get("starts", 0) if starts is None else starts,
        "timeouts": before.get("timeouts", 0) if timeouts is None else timeouts,
    }
    write_atomic(Path(run) / "status.json", json.dumps(status, indent=1) + "\n")


def read_status(run: Path) -> dict | None:
    """What `write_status` wrote last; None before that."""
    return read_json(Path(run) / "status.json")


def read_json(path: Path) -> dict | None:
    """The content of a JSON file that is written at once (status, environment, data); None where there is none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}. Remove it; the run writes it again.") from error


# ---- submission.json


def write_submission(
    run: Path, *, job_id: str, overrides: Sequence[str], launcher: Mapping[str, object], code: str
) -> None:
    """Replaces submission.json: how the run was just sent to a cluster.

    launcher: the options of hydra.launcher, with which `retry` sends it again. code: the folder of the code that it runs.
    """
    submission = {"job_id": job_id, "overrides": list(overrides), "launcher": dict(launcher)}
    submission |= {"submitted": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "code": code}
    write_atomic(Path(run) / "submission.json", json.dumps(submission, indent=1) + "\n")


def read_submission(run: Path) -> dict | None:
    """How the run was sent to a cluster: {"job_id", "overrides", "launcher", "submitted", "code"}; None where it was not."""
    return read_json(Path(run) / "submission.json")


# ---- tasks.json


def write_tasks(run: Path, tasks: Mapping[str, object]) -> None:
    """Puts what these tasks are made of into tasks.json; others stay there, whoever wrote them, also at the same time."""
    path = Path(run) / "tasks.json"
    with locked(Path(run) / ".tasks.lock"):
        known = read_json(path) or {}
        if not path.is_file() or known != known | tasks:
            write_atomic(path, json.dumps(known | tasks, indent=1) + "\n")


# ---- coverage.json


def write_coverage(run: Path, step: int, coverage: Mapping[str, object]) -> None:
    """Replaces coverage.json: which slides the first `step` steps saw, as data/coverage.py tells it."""
    write_atomic(Path(run) / "coverage.json", json.dumps({"step": step, **coverage}, indent=1) + "\n")


def read_coverage(run: Path) -> dict | None:
    """What `write_coverage` wrote last; None before the first checkpoint."""
    return read_json(Path(run) / "coverage.json")


# ---- compute.json


def write_compute(run: Path, *, flops_per_patch: int, processes: int) -> None:
    """Replaces compute.json: what a patch of training costs, and how many processes (with a device each) share the work."""
    content = {"flops_per_patch": flops_per_patch, "processes": processes}
    write_atomic(Path(run) / "compute.json", json.dumps(content, indent=1) + "\n")


def read_compute(run: Path) -> dict | None:
    """What `write_compute` wrote last; None in runs from before there was such a file."""
    return read_json(Path(run) / "compute.json")


# ---- leakage.json

LEAKS = "leakage.json"
OF_TRAINING = ("case", "slide", "patch", "weights")  # overlaps which mean that what is tested was trained on


def read_leaks(run: Path) -> dict[str, list[dict]]:
    """{task: overlaps with what was trained on}, as the run found them before it began: [{"kind", "name", "images"}]."""
    return _overlaps(run, OF_TRAINING)


def read_copies(run: Path) -> dict[str, list[dict]]:
    """The same of copies between a task's own splits: `name` is an image, and `images` its copies in other splits."""
    return _overlaps(run, ("split",))


def _overlaps(run: Path, kinds: Sequence[str]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for one in (read_json(Path(run) / LEAKS) or {"overlaps": []})["overlaps"]:
        if one["kind"] in kinds:
            found.setdefault(one["task"], []).append(one)
    return found
