"""The options of conf/hydra/launcher/slurm_*.yaml: what they may be, and the job that they make of a run."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor

from pathssl.errors import UserError

_NAMES = {  # of conf/hydra/launcher -> submitit's for sbatch
    "tasks_per_node": "ntasks_per_node",
    "timeout_min": "time",
}
_AS_THEY_ARE = ("partition", "qos", "account", "constraint", "nodes", "cpus_per_task", "mem_gb")
_AS_THEY_ARE += ("signal_delay_s", "array_parallelism", "mail_user")
_LEAST = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 0, "cpus_per_task": 1, "timeout_min": 1}
_LEAST |= {"signal_delay_s": 1, "max_num_timeout": 0, "array_parallelism": 1}
# Of sbatch, and what says the same here: said twice, the plan would count one and SLURM give the other.
_OURS = {
    "gres": "hydra.launcher.gpus_per_node, gpu_type and gpus_as=gres",
    "gpus": "hydra.launcher.gpus_per_node",
    "gpus-per-node": "hydra.launcher.gpus_per_node",
    "gpus-per-task": "hydra.launcher.gpus_per_node",
    "ntasks": "hydra.launcher.tasks_per_node and nodes",
    "ntasks-per-node": "hydra.launcher.tasks_per_node",
    "nodes": "hydra.launcher.nodes",
    "time": "hydra.launcher.timeout_min",
    "signal": "hydra.launcher.signal_delay_s",
    "array": "hydra.launcher.array_parallelism",
}
GPUS_AS = ("gpus_per_node", "gres")


def check_options(options: Mapping[str, Any]) -> None:
    """UserError for settings of hydra.launcher that cannot be."""
    for key, smallest in _LEAST.items():
        if type(options[key]) is not int or options[key] < smallest:
            raise UserError(f"hydra.launcher.{key}={options[key]} must be a whole number, at least {smallest}.")
    if type(options["wait"]) is not bool:
        raise UserError(f"hydra.launcher.wait={options['wait']} must be true or false.")
    memory = options["mem_gb"]
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int | float) or memory <= 0):
        raise UserError(f"hydra.launcher.mem_gb={memory} must be a number of GB, or null for the cluster's default.")
    _check_time(options["timeout_min"], options["signal_delay_s"])
    _check_gpus(options)
    _check_further(options)


def _check_time(timeout_min: int, signal_delay_s: int) -> None:
    """A job that is warned as soon as it begins would do nothing but stop and begin again."""
    if 2 * signal_delay_s > 60 * timeout_min:
        raise UserError(
            f"hydra.launcher.timeout_min={timeout_min} and signal_delay_s={signal_delay_s}: a job would be warned of its end before it has "
            f"trained for long. Give at least {-(-2 * signal_delay_s // 60)} minutes, or a signal_delay_s of at most {30 * timeout_min}."
        )


def _check_gpus(options: Mapping[str, Any]) -> None:
    gpus, tasks = options["gpus_per_node"], options["tasks_per_node"]
    if gpus not in (0, tasks):
        raise UserError(
            f"hydra.launcher.gpus_per_node={gpus} and tasks_per_node={tasks}: each process has a GPU of its own, so the two are equal; "
            "0 GPUs are for runs on CPUs."
        )
    if options["gpus_as"] not in GPUS_AS:
        raise UserError(f"hydra.launcher.gpus_as={options['gpus_as']} must be one of {', '.join(GPUS_AS)}.")
    kind = options["gpu_type"]
    if kind is not None and (not isinstance(kind, str) or not gpus):
        raise UserError(f"hydra.launcher.gpu_type={kind} names the cluster's kind of the {gpus} GPUs, such as a100.")


def _check_further(options: Mapping[str, Any]) -> None:
    setup = options["setup"]
    if not isinstance(setup, list) or not all(isinstance(line, str) for line in setup):
        raise UserError(
            f"hydra.launcher.setup={setup} must be a list of lines of shell: 'hydra.launcher.setup=[module load cuda]'."
        )
    if not isinstance(options["sbatch"], Mapping):
        raise UserError(
            f"hydra.launcher.sbatch={options['sbatch']} must hold options by name: +hydra.launcher.sbatch.exclude=node7."
        )
    for key in options["sbatch"]:
        if (ours := _OURS.get(key.replace("_", "-"))) is not None:
            raise UserError(f"hydra.launcher.sbatch.{key}: say it by {ours}, which the plan counts too.")


def executor_of(options: Mapping[str, Any], study: Path, code: Path) -> SlurmExecutor:
    """submitit's, with the options of conf/hydra/launcher."""
    executor = SlurmExecutor(study.absolute() / ".slurm", max_num_timeout=options["max_num_timeout"])
    given = {name: options[name] for name in _AS_THEY_ARE} | {_NAMES[name]: options[name] for name in _NAMES}
    given["mail_type"] = _listed(options["mail_type"])
    given = {name: value for name, value in given.items() if value is not None} | _gpus(options)
    if "mem_gb" in given:
        given["mem"] = f"{round(given.pop('mem_gb') * 1024)}M"
    further = {name: _listed(value) for name, value in options["sbatch"].items()}
    path, logs = shlex.quote(str(code)), shlex.quote(str(study.absolute() / ".slurm"))
    executor.parameters = given | {
        "job_name": options["name"] or study.name,
        "stderr_to_stdout": True,
        "wckey": None,
        # srun has not taken over --cpus-per-task by itself since Slurm 22.05. Processes that stop do so one after the other, and none is
        # to be killed before it has; where one died, the others could wait for ever.
        "srun_args": [f"--cpus-per-task={options['cpus_per_task']}", "--kill-on-bad-exit=0", "--wait=300"],
        "setup": [
            *options["setup"],
            f"export PYTHONPATH={path}${{PYTHONPATH:+:$PYTHONPATH}}",
            f"export PATHSSL_WARNED_S={options['signal_delay_s']} PATHSSL_MAX_TIMEOUTS={options['max_num_timeout']} PATHSSL_LOGS={logs}",
            "trap : USR2 TERM # the run hears them; this script waits for it",
        ],
        "teardown": ["code=$?", f"source {path}/slurm/requeue.sh"],
        "additional_parameters": {"requeue": True, "hold": True, **further},
    }
    return executor


def _gpus(options: Mapping[str, Any]) -> dict[str, Any]:
    """GPUs as the cluster wants to be asked for them."""
    if not options["gpus_per_node"]:
        return {}
    count = options["gpus_per_node"]
    named = count if options["gpu_type"] is None else f"{options['gpu_type']}:{count}"
    return {"gpus_per_node": named} if options["gpus_as"] == "gpus_per_node" else {"gres": f"gpu:{named}"}


def _listed(value: Any) -> Any:
    """A list as sbatch writes it: END,FAIL."""
    return ",".join(map(str, value)) if isinstance(value, list) else value
