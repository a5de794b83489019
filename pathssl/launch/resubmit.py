"""Runs that a launcher sent somewhere are sent again by the same launcher."""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from pathssl.complaints import CONF
from pathssl.errors import UserError
from pathssl.launch.grid import complained
from pathssl.records import read_config, read_submission


def resubmit(runs: Sequence[Path]) -> list[Path]:
    """Those of `runs` that failed at once. Each goes with the overrides and the launcher's options that its submission.json has, by the
    code as it is now; runs of a study with the same options go together.
    """
    groups = defaultdict(list)
    for run in runs:
        submission, study = read_submission(run), run.absolute().parents[1]
        options = json.dumps(submission["launcher"], sort_keys=True)
        groups[options, home(run), study].append((run, submission["overrides"]))
    failed = []
    for (options, folder, _), group in groups.items():
        with chdir(folder):
            failed += _launch(json.loads(options), group)
    return failed


def home(run: Path) -> Path:
    """The folder in which the run was started: that of its output_dir, where this is no absolute path."""
    output_dir, root = Path(read_config(run)["output_dir"]), run.absolute().parents[2]
    if output_dir.is_absolute():
        return root
    folder = root.parents[len(output_dir.parts) - 1] if output_dir.parts else root
    if folder / output_dir != root:
        raise UserError(f"{run} was started with output_dir={output_dir}, and lies elsewhere now: repeat its command.")
    return folder


def _launch(options: dict, group: Sequence[tuple[Path, list[str]]]) -> list[Path]:
    jobs = [overrides for _, overrides in group]
    with complained(jobs[0]), initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        config = hydra.config_loader.load_configuration("config", jobs[0], run_mode=RunMode.MULTIRUN)
        launcher = instantiate(options)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        launcher.setup(hydra_context=context, task_function=_train, config=config)
        returns = launcher.launch(jobs, initial_job_idx=0)
    return [run for (run, _), made in zip(group, returns, strict=True) if made.status == JobStatus.FAILED]


def _train(config: DictConfig) -> int:
    from pathssl.run import main

    return main(config)
