"""The launcher that `-m` uses where there is no cluster. Hydra finds it here; the queue itself is pathssl/launch/local.py."""

import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Runs each job in `processes` of its own, `parallel` jobs at a time."""

    def __init__(self, parallel: int | None, processes: int) -> None:
        self.parallel, self.processes = parallel, processes

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        self.config, self.config_loader = config, hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        from pathssl.errors import UserError
        from pathssl.launch.local import run_queue, visible_gpus

        jobs, train = [list(overrides) for overrides in job_overrides], self.config.train
        try:
            self._plan(jobs)
            codes = run_queue(
                jobs,
                parallel=self.parallel,
                processes=self.processes,
                gpus=[] if train.device == "cpu" else visible_gpus(),
                threads=train.threads,
                study_folder=self._study_folder(),
            )
        except UserError as error:  # of which Hydra would make a traceback
            print(error, file=sys.stderr)
            sys.exit(2)
        return [self._result(job, code) for job, code in zip(jobs, codes, strict=True)]

    def _plan(self, jobs: list[list[str]]) -> None:
        """Says what the runs will cost; UserError where that is beyond the budget."""
        from pathssl.launch.grid import plain
        from pathssl.launch.plan import local, plan_of
        from pathssl.launch.plan_table import table

        configs = [plain(self.config_loader.load_sweep_config(self.config, job)) for job in jobs]
        where = local({"parallel": self.parallel, "processes": self.processes}, configs[0]["train"])
        plan = plan_of(jobs, configs, where, may_guess=False)
        print(table(plan), flush=True)
        plan.refuse_beyond_budget()

    def _study_folder(self) -> str:
        return f"{self.config.output_dir}/{self.config.study}"

    @staticmethod
    def _result(overrides: list[str], code: int) -> Any:
        if code == 0:
            return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=0)
        return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=SystemExit(code))
