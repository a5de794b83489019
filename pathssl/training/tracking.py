"""metrics.jsonl is the truth; Weights & Biases mirrors it, and may fail without harm."""

import logging
import os
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathssl.files import write_atomic
from pathssl.metric_keys import metric_key
from pathssl.records import append_metrics, read_json, read_leaks, read_metrics
from pathssl.training.checkpoints import Checkpoints
from pathssl.training.interrupt import Interrupted

log = logging.getLogger(__name__)
_INIT_S, _FINISH_S = 30.0, 120.0  # that W&B may keep a run waiting, at its start and at its end
_ENDED_WELL, _STOPPED = 0, 75
_TOLD = "wandb_probes.txt"


def of_agent() -> bool:
    """Whether an agent of a W&B sweep started this run."""
    return "WANDB_SWEEP_ID" in os.environ


def ended_by_agent(stop: Interrupted) -> bool:
    """Whether an agent ended the run, for good: it sends SIGTERM. After other signals, such as SLURM's warning, the run goes on; and
    after the SIGTERM of a job that is to end, of which slurm/wandb_agent.sbatch tells by a file.
    """
    if Path(os.environ.get("PATHSSL_JOB_ENDS", "")).is_file():
        return False
    return of_agent() and stop.signal in (signal.SIGTERM, None)  # None: another process of the run heard it


class Tracker:
    """Writes rows to `run`/metrics.jsonl and, where `wandb` has settings {project, entity, mode}, to W&B.

    choices: what was typed or swept, {key: value}, which W&B shows as columns of its own.
    """

    def __init__(
        self,
        run: Path,
        *,
        wandb: Mapping[str, Any] | None,
        config: Mapping[str, Any],
        choices: Mapping[str, Any],
        name: str,
        group: str,
    ):
        self.run = Path(run)
        self._mirror = _Mirror(self.run, wandb, config, choices, name, group) if wandb else None

    def log(self, row: Mapping[str, float]) -> None:
        append_metrics(self.run, row)
        if self._mirror:
            self._mirror.call("log", dict(row))

    def log_again(self, last_step: int) -> None:
        """Mirrors the rows of a run that another W&B run has, up to `last_step`: an agent may draw what was trained before."""
        if self._mirror and self._mirror.is_new:
            for row in read_metrics(self.run):
                if row["step"] <= last_step:
                    self._mirror.call("log", row)

    def log_late(self) -> None:
        """Mirrors the results that another process left under probes/, each once, at the patches seen that they are of."""
        if self._mirror is None:
            return
        if self._mirror.is_new:
            (self.run / _TOLD).unlink(missing_ok=True)
            self._mirror.is_new = False
        new = untold(self.run)
        for name in new:
            probe = read_json(self.run / "probes" / f"{name}.json")
            row = {metric_key(probe["task"], key): value for key, value in probe["results"].items()}
            self._mirror.call("log", {"step": probe["step"], "patches_seen": probe["patches_seen"]} | row)
        if new:
            write_atomic(self.run / _TOLD, "\n".join([*_told(self.run), *new]) + "\n")

    def close(self, error: BaseException | None = None) -> None:
        """error: what ended the run, where it did not finish."""
        if self._mirror is None:
            return
        code = 1 if error else _ENDED_WELL
        if isinstance(error, Interrupted):
            code = _ENDED_WELL if ended_by_agent(error) else _STOPPED
            if code == _STOPPED:  # it goes on; of a sweep's run, an agent is told to take it up
                self._mirror.call("mark_preempting")
        self._mirror.call("finish", exit_code=code)


class _Mirror:
    """A W&B run that says once that it failed, and is then silent.

    Its id is drawn once and kept in the folder, so that a resumed run is the same and no other run is; where an agent gives another one,
    the folder has that from then on. is_new: W&B has no rows of the folder under this id.
    """

    def __init__(
        self,
        run: Path,
        settings: Mapping[str, Any],
        config: Mapping[str, Any],
        choices: Mapping[str, Any],
        name: str,
        group: str,
    ):
        self._run = None
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb  # half a second, for those who use it

        self._errors = (wandb.Error, OSError, RuntimeError, ValueError)
        known = run / "wandb_id.txt"
        before = known.read_text().strip() if known.is_file() else None
        given = os.environ.get("WANDB_RUN_ID") if of_agent() else None
        id_ = given or before or uuid.uuid4().hex[:16]
        self.is_new = id_ != before
        try:
            self._run = wandb.init(
                project=settings["project"],
                entity=settings["entity"],
                mode=settings["mode"],
                dir=str(run),
                id=None if given else id_,  # which W&B reads itself
                resume="allow",
                name=name,
                group=group,
                config={"config": dict(config)},
                settings=wandb.Settings(init_timeout=_INIT_S, finish_timeout=_FINISH_S, finish_timeout_raises=True),
            )
            # An agent has written what it swept, and locked it.
            self._run.config.update({key: value for key, value in choices.items() if key not in self._run.config})
            if leaks := sorted(read_leaks(run)):  # tasks whose numbers say little
                self._run.config.update({"tested_on_training": leaks}, allow_val_change=True)
            self._run.define_metric("patches_seen")
            self._run.define_metric("*", step_metric="patches_seen")
            write_atomic(known, id_)
        except self._errors as error:
            self._give_up(error)

    def call(self, method: str, *args: Any, **kwargs: Any) -> None:
        if self._run is not None:
            try:
                getattr(self._run, method)(*args, **kwargs)
            except self._errors as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        log.warning("Weights & Biases failed (%s); the run goes on, and metrics.jsonl has everything.", error)


def untold(run: Path) -> list[str]:
    """The results under probes/ that W&B has not been told, as step_<step>/<task>."""
    there = {f"{path.parent.name}/{path.stem}" for path in (run / "probes").glob("step_*/[!.]*.json")}
    return sorted(there - {*_told(run)})


def _told(run: Path) -> list[str]:
    return (run / _TOLD).read_text().split() if (run / _TOLD).is_file() else []


def last_saved_step(run: Path) -> int:
    """The step that the run goes on from; -1 where nothing was saved."""
    return (Checkpoints(run).steps() or [-1])[-1]
