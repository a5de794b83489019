"""The launcher that `-m` uses where there is no cluster. Hydra finds it here; the queue itself is pathssl/launch/local.py."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Runs each job in a process of its own, `parallel` at a time."""

    def __init__(self, parallel: int | None) -> None:
        self.parallel = parallel

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        from pathssl.launch.local import run_queue

        jobs = [list(overrides) for overrides in job_overrides]
        codes = run_queue(
            jobs, parallel=self.parallel, threads=self.config.train.threads, study_folder=self._study_folder()
        )
        return [self._result(job, code) for job, code in zip(jobs, codes, strict=True)]

    def _study_folder(self) -> str:
        return f"{self.config.output_dir}/{self.config.study}"

    @staticmethod
    def _result(overrides: list[str], code: int) -> Any:
        if code == 0:
            return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=0)
        return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=SystemExit(code))
