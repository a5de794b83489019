"""What each run of a folder is doing: what it wrote last, and whether it is still there."""

import datetime
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pathssl.errors import UserError
from pathssl.files import is_locked
from pathssl.launch.jobs import Job, ask
from pathssl.launch.tails import Tail, read_tail
from pathssl.probe_process import unprobed
from pathssl.records import find_runs, read_config, read_status, read_submission
from pathssl.report.words import duration, plural
from pathssl.schedules import steps_every

# As in status.json, and: `starting`, the job has begun and the run not yet; `lost`, nothing is left of it that could go on by itself.
STATES = ("running", "starting", "queued", "preempted", "lost", "failed", "finished")
_SILENT_S = 600  # without a word of a run: worth saying
_REASONS = {"BadConstraints": "BadConstraints: no node has what the job asks for; scancel it, and send it with less"}
_LEFT_ALONE = ("finished", "running", "starting", "queued")
_ENDED = ("finished", "failed", "lost", "preempted")
_COLUMNS = ("run", "state", "step", "ETA", "patches/s", "last probe", "requeues", "why")


@dataclass(frozen=True)
class Look:
    """One run. `why`: of a lost run how it was lost, of a failed one the last line of its error, else what else is worth saying."""

    run: Path
    state: str
    why: str
    step: int
    total_steps: int | None
    patches_per_s: float | None
    eta_s: float | None
    probe: tuple[str, float] | None
    requeues: int
    updated: str | None


def all_runs(folder: Path) -> list[Path]:
    """The run folders of a run, an arm, a study, or a folder of studies."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. Name a run, a study, or the output_dir of studies.")
    runs = find_runs(folder) or [
        run for study in sorted(folder.iterdir()) if study.is_dir() for run in find_runs(study)
    ]
    if not runs:
        raise UserError(
            f"No runs in {folder}: a run is a folder seed<k> with a config.yaml, as in outputs/<study>/<arm>/seed0."
        )
    return runs


def look_at(runs: Sequence[Path]) -> list[Look]:
    """What each of these runs is doing now."""
    jobs = ask(sorted({id_ for run in runs for id_ in _job_ids(run, read_status(run))}))
    return [_look(run, jobs) for run in runs]


def under_way(runs: Sequence[Path]) -> dict[Path, str]:
    """Those of the runs for which there is nothing to do, and what they are doing."""
    begun = [run for run in runs if read_status(run) is not None]
    return {look.run: look.state for look in look_at(begun) if look.state in _LEFT_ALONE}


def _look(run: Path, jobs: Mapping[str, Job] | None) -> Look:
    status = read_status(run)
    state, why = _state(run, status, jobs)
    if state == "lost" and read_status(run) != status:  # it ended, or began, between the two questions
        status = read_status(run)
        state, why = _state(run, status, jobs)
    status = status or {}
    step, total = status.get("step", 0), status.get("total_steps")
    tail = read_tail(run)
    running = state == "running" and total is not None
    return Look(
        run=run,
        state=state,
        why=why,
        step=step,
        total_steps=total,
        patches_per_s=tail.patches_per_s if running else None,
        eta_s=_eta_s(run, step, total, tail) if running else None,
        probe=_probe(run, tail),
        requeues=max(0, status.get("starts", 0) - 1),
        updated=status.get("updated"),
    )


def _job_ids(run: Path, status: Mapping[str, Any] | None) -> list[str]:
    """The jobs that could have the run now; a run that was started since without SLURM has none."""
    submission = read_submission(run)
    if status is None:
        return [submission["job_id"]] if submission else []
    if status["job_id"] is None or status["state"] == "finished":
        return []
    return [status["job_id"], *([submission["job_id"]] if submission else [])]


def _state(run: Path, status: Mapping[str, Any] | None, jobs: Mapping[str, Job] | None) -> tuple[str, str]:
    """The run's state, and what else to say of it."""
    ids = _job_ids(run, status)
    told = "queued" if status is None else status["state"]
    last_line = ((status or {}).get("error") or "").strip().rpartition("\n")[2]
    if told == "finished":
        return told, _waiting_for_probes(run)
    # In an interactive job (salloc) the job outlives the run.
    if ids and os.environ.get("SLURM_JOB_ID") not in ids:
        return _state_by_job(run, told, status or {}, last_line, ids, jobs)
    if told == "failed":
        return told, last_line
    held = is_locked(run / ".lock")
    if told == "running":
        if status["host"] != platform.node() and not held:
            return (
                told,
                f"on {status['host']}, which cannot be asked from here; its last word was at {status['updated']}",
            )
        if held is None:
            return told, "this disk has no locks, which would tell whether the run still lives"
        return (told, "") if held else ("lost", f"its process is gone; its last word was at {status['updated']}")
    if held:
        return "starting", ""
    if status is None:
        return "lost", "it never began, and no process has it"
    return told, "it was stopped; the same command goes on from there" if told == "preempted" else ""


def _is_probed_elsewhere(run: Path) -> bool:
    return ((read_config(run) or {}).get("probe") or {}).get("where") == "job"


def _probed_inside(run: Path) -> str:
    """What its user has to know of a run in a job that the launcher did not send, where another process of that job probes it."""
    if read_submission(run) is not None or not _is_probed_elsewhere(run):
        return ""
    return "its probes end with its job: what is then missing, python -m pathssl probe RUN --late makes"


def _waiting_for_probes(run: Path) -> str:
    """What a finished run still waits for, where another process probes it."""
    if not _is_probed_elsewhere(run):
        return ""
    waiting = len(unprobed(run))
    return f"{plural(waiting, 'checkpoint')} not probed yet (python -m pathssl probe RUN --late)" if waiting else ""


def _state_by_job(
    run: Path,
    told: str,
    status: Mapping[str, Any],
    last_line: str,
    ids: list[str],
    jobs: Mapping[str, Job] | None,
) -> tuple[str, str]:
    if jobs is None:
        return told, last_line or f"SLURM does not answer; its job is {ids[0]}"
    known = [jobs[id_] for id_ in ids if id_ in jobs]
    alive = [job for job in known if not job.over]
    if alive and alive[-1].waiting:
        return "queued", _REASONS.get(alive[-1].reason, alive[-1].reason)
    if told == "failed":
        return told, last_line
    if alive:
        return _in_its_job(run, told, status, ids[-1])
    end = f" ({known[-1].state})" if known else ""
    how = {"queued": "before it began", "preempted": "after it was stopped"}.get(told, "without a word of the run")
    return "lost", f"its job {ids[-1]} is gone{end}, {how}"


def _in_its_job(run: Path, told: str, status: Mapping[str, Any], job: str) -> tuple[str, str]:
    """Of a run whose job is there, and does not wait."""
    if told == "preempted":
        return "starting", "it was stopped, and goes on"
    if told != "running":
        return "starting", ""
    # A job may outlive its run: an agent's, or salloc's. Another node's locks are not seen from here on every file system.
    if is_locked(run / ".lock") is not False:
        return told, _probed_inside(run)
    gone = f"nothing holds its folder; its last word was at {status['updated']}"
    if status["host"] == platform.node():
        return "lost", f"its job {job} lives on, but {gone}"
    return told, gone if _silent_s(status) > _SILENT_S else _probed_inside(run)


def _silent_s(status: Mapping[str, Any]) -> float:
    said = datetime.datetime.fromisoformat(status["updated"])
    return (datetime.datetime.now(datetime.UTC) - said).total_seconds()


def _eta_s(run: Path, step: int, total: int, tail: Tail) -> float | None:
    """Seconds that the remaining steps will take, with their probes."""
    config = read_config(run)
    if tail.patches_per_s is None or config is None:
        return None
    probes = sum(at > step for at in steps_every(config["train"]["checkpoint_every"], total))
    return (total - step) * config["batch"]["size"] / tail.patches_per_s + probes * (tail.probe_time_s or 0.0)


def _probe(run: Path, tail: Tail) -> tuple[str, float] | None:
    """What the report compares first, or the linear probe, or whatever there is."""
    if not tail.probes:
        return None
    primary = ((read_config(run) or {}).get("report") or {}).get("primary")
    linear = (key for key in tail.probes if key.endswith("linear/test/balanced_accuracy"))
    key = primary if primary in tail.probes else next(linear, next(iter(tail.probes)))
    return key, tail.probes[key]


def summary(looks: Sequence[Look]) -> str:
    """4 runs: 1 running, 3 finished."""
    states = [look.state for look in looks]
    counted = [f"{states.count(state)} {state}" for state in STATES if state in states]
    return f"{plural(len(looks), 'run')}: {', '.join(counted)}."


def table(looks: Sequence[Look], folder: Path) -> list[str]:
    """A line a run, in columns."""
    rows = [_COLUMNS, *(_row(look, folder) for look in looks)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def _row(look: Look, folder: Path) -> tuple[str, ...]:
    inside = os.path.relpath(look.run, folder)
    return (
        f"{look.run.parent.name}/{look.run.name}" if inside == "." else inside,
        look.state,
        "" if look.total_steps is None else f"{look.step:,} of {look.total_steps:,}",
        "" if look.eta_s is None else duration(look.eta_s / 3600),
        "" if look.patches_per_s is None else f"{look.patches_per_s:,.0f}",
        "" if look.probe is None else f"{look.probe[0].removeprefix('probe/')} {look.probe[1]:.3f}",
        str(look.requeues),
        look.why,
    )


def answer(looks: Sequence[Look], folder: Path) -> dict[str, Any]:
    """For `python -m pathssl status`."""
    rows = [asdict(look) | {"run": str(look.run), "ended": look.state in _ENDED} for look in looks]
    return {"text": "\n".join([*table(looks, folder), "", summary(looks)]), "summary": summary(looks), "runs": rows}


def watch(folder: Path) -> Iterator[list[Look]]:
    """Looks again and again, until every run has ended."""
    while True:
        looks = look_at(all_runs(folder))
        yield looks
        if all(look.state in _ENDED for look in looks):
            return
