"""The launchers that `-m` uses. Hydra finds them here; what they do is in pathssl/launch/: the queue (local.py), SLURM (submit.py)."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


def default_launcher() -> str:
    """The option of hydra/launcher where none is named: SLURM's where it answers. Only those are asked who launch or plan."""
    if not {"-m", "--multirun", "plan"} & set(sys.argv[1:]):
        return "local"
    from pathssl.launch.jobs import answers

    return "slurm_1gpu" if answers() else "local"


OmegaConf.register_new_resolver("pathssl.launcher", default_launcher, replace=True)


class _Planned(Launcher):
    """Says first what the runs will cost, and starts nothing that is beyond the budget."""

    options: dict[str, Any]
    left_off: str  # what Ctrl-C leaves behind

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        self.config, self.composed = config, {}
        self.compose = hydra_context.config_loader.load_sweep_config
        # Hydra's sweeper composes every config to see whether it can, and we need each: once is enough.
        hydra_context.config_loader.load_sweep_config = self._compose_once

    def _compose_once(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        key = tuple(sweep_overrides)
        if key not in self.composed:
            self.composed[key] = self.compose(master_config, sweep_overrides)
        return self.composed[key]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        from pathssl.errors import INTERRUPTED, UserError
        from pathssl.launch.grid import check_runs, plain
        from pathssl.launch.paths import check_paths

        jobs = [list(overrides) for overrides in job_overrides]
        try:
            configs = [plain(self._compose_once(self.config, job)) for job in jobs]
            typed, own = self.config.hydra.overrides.task, self.config.hydra.sweeper.params or {}
            check_runs(jobs, configs, list(typed), {str(key) for key in own})
            check_paths(jobs, configs, refuse="nodes" not in self.options)
            self._plan(jobs, configs)
            codes = self._run(jobs, configs)
        except UserError as error:  # of which Hydra would make a traceback
            print(error, file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print(self.left_off, file=sys.stderr)
            sys.exit(INTERRUPTED)
        return [self._result(job, code) for job, code in zip(jobs, codes, strict=True)]

    def _plan(self, jobs: list[list[str]], configs: list[dict[str, Any]]) -> None:
        from pathssl.launch.grid import scale_of
        from pathssl.launch.plan import plan_of, where_of
        from pathssl.launch.plan_table import table

        where, scales = where_of(self.options, configs[0]["train"]), [scale_of(c) for c in self.composed.values()]
        plan = plan_of(jobs, configs, where, may_guess=False, scales=scales)
        print(table(plan), flush=True)
        plan.refuse_beyond_budget()

    @abstractmethod
    def _run(self, jobs: list[list[str]], configs: list[dict[str, Any]]) -> list[int]:
        """The runs' exit codes; 0 for those that were sent elsewhere."""

    @staticmethod
    def _result(overrides: list[str], code: int) -> Any:
        if code == 0:
            return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=0)
        return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=SystemExit(code))


class LocalLauncher(_Planned):
    """Runs each job in `processes` of its own, `parallel` jobs at a time."""

    left_off = "Stopped. The runs have saved their states where they had begun; the same command goes on."

    def __init__(self, parallel: int | None, processes: int) -> None:
        self.options = {"parallel": parallel, "processes": processes}

    def _run(self, jobs: list[list[str]], configs: list[dict[str, Any]]) -> list[int]:
        from pathssl.launch.local import run_queue, visible_gpus

        train, study_folder = configs[0]["train"], f"{self.config.output_dir}/{self.config.study}"
        gpus = [] if train["device"] == "cpu" else visible_gpus()
        codes = run_queue(jobs, **self.options, gpus=gpus, threads=train["threads"], study_folder=study_folder)
        if 0 in codes:
            print(f"What it came to: python -m pathssl report {study_folder}", flush=True)
        return codes


class SlurmLauncher(_Planned):
    """Submits the jobs as one array, and returns; with `wait`, when all have ended. The options: conf/hydra/launcher/slurm_1gpu.yaml."""

    left_off = "Nobody waits any more; jobs that were submitted go on (`python -m pathssl status` shows them, scancel ends them)."

    def __init__(self, **options: Any) -> None:
        self.options = OmegaConf.to_container(OmegaConf.create(options), resolve=True)

    def _run(self, jobs: list[list[str]], configs: list[dict[str, Any]]) -> list[int]:
        from pathssl.launch.submit import submit, told, wait_for

        options = {"_target_": "hydra_plugins.pathssl_launcher.SlurmLauncher", **self.options}
        sent = submit(jobs, configs, options)
        print(told(sent), flush=True)
        if not self.options["wait"]:
            return [0] * len(jobs)
        return [int(look.state != "finished") for look in wait_for([s.run for s in sent])]
