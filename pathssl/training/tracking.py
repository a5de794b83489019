"""metrics.jsonl is the truth; Weights & Biases mirrors it, and may fail without harm."""

import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathssl.files import write_atomic
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


def _id(run: Path) -> str:
    """The W&B id of this run folder: drawn once and kept in it, so that a resumed run is the same and no other run is."""
    path = run / "wandb_id.txt"
    if not path.is_file():
        write_atomic(path, uuid.uuid4().hex[:16])
    return path.read_text().strip()


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
                id=_id(run),
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
