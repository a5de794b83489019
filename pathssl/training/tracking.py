"""metrics.jsonl is the truth; Weights & Biases mirrors it, and may fail without harm."""

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathssl.records import append_metrics

log = logging.getLogger(__name__)


class Tracker:
    """Writes rows to `run`/metrics.jsonl and, where `wandb` has settings {project, entity, mode}, to W&B."""

    def __init__(self, run: Path, *, wandb: Mapping[str, Any] | None, config: Mapping[str, Any], name: str, group: str):
        self.run = Path(run)
        self._mirror = _Mirror(self.run, wandb, config, name, group) if wandb else None

    def log(self, row: Mapping[str, float]) -> None:
        append_metrics(self.run, row)
        if self._mirror:
            self._mirror.call("log", dict(row))

    def close(self, exit_code: int) -> None:
        if self._mirror:
            self._mirror.call("finish", exit_code=exit_code)


class _Mirror:
    """A W&B run that says once that it failed, and is then silent."""

    def __init__(self, run: Path, settings: Mapping[str, Any], config: Mapping[str, Any], name: str, group: str):
        self._run = None
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb  # half a second, for those who use it

        self._errors = (wandb.Error, OSError, RuntimeError, ValueError)
        try:
            self._run = wandb.init(
                project=settings["project"],
                entity=settings["entity"],
                mode=settings["mode"],
                dir=str(run),
                # The folder is a pure function of the config, so the same command finds the same W&B run again.
                id=hashlib.sha256("/".join(run.absolute().parts[-3:]).encode()).hexdigest()[:16],
                resume="allow",
                name=name,
                group=group,
                config={"config": dict(config)},
            )
            self._run.define_metric("patches_seen")
            self._run.define_metric("*", step_metric="patches_seen")
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
