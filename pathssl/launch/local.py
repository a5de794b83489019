"""A queue of runs on this machine: each in one or more processes of its own, some at a time, GPUs dealt out one to a process."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pathssl.errors import INTERRUPTED, UserError
from pathssl.identity import arm_name
from pathssl.records import read_status

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
_POLL_S, _SPEAK_S = 0.5, 30.0
# Signals that torchrun hands on, and how long it then waits.
_TOLD, _SAVES_WITHIN_S = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR2"), 1800
# What torchrun adds to what its processes say: "W1124 03:33:07.364000 11487 torch/distributed/..."; its last words begin with the second.
_OF_TORCHRUN, _LAST_WORDS = re.compile(r"[IWE]\d{4} \S+ \d+ torch/distributed/"), "failed (exitcode: "


@dataclass
class _Running:
    job: int
    process: subprocess.Popen
    output: IO[bytes]
    gpus: str | None
    start: float


def run_queue(
    jobs: list[list[str]], *, parallel: int | None, processes: int, gpus: list[str], threads: int, study_folder: str
) -> list[int]:
    """The exit codes of `python train.py OVERRIDES...` for every job; a failing run leaves the others alone.

    processes: of one run (several are started by torchrun), each with one of `gpus` where there are any. parallel: runs at a time; None is
    as many as the GPUs are enough for, or, without any, the CPU cores at `threads` a process.
    """
    check_settings(parallel, processes, gpus)
    shares = [",".join(gpus[i : i + processes]) for i in range(0, len(gpus) - processes + 1, processes)]
    parallel = at_a_time(parallel, processes, len(gpus), threads)
    names = names_of(jobs)
    print(f"{len(jobs)} runs in {study_folder}, {min(parallel, len(jobs))} at a time:", *names, sep="\n  ", flush=True)
    if processes > 1 and not gpus:
        print(
            f"No GPU is used: each run trains in {processes} processes on {len(os.sched_getaffinity(0))} CPU cores.",
            flush=True,
        )
    codes: list[int | None] = [None] * len(jobs)
    waiting, running, spoken = list(range(len(jobs))), [], time.monotonic()
    free_gpus: list[str | None] = [shares[i % len(shares)] if shares else None for i in range(parallel)]
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                job = waiting.pop(0)
                running.append(_start(job, command(jobs[job], processes), free_gpus.pop(0)))
            time.sleep(_POLL_S)
            for item in [item for item in running if item.process.poll() is not None]:
                running.remove(item)
                free_gpus.append(item.gpus)
                codes[item.job] = _say_end(item, names[item.job], Path(study_folder))
            if time.monotonic() - spoken > _SPEAK_S and running:
                spoken = time.monotonic()
                print(" | ".join(_progress(Path(study_folder) / names[item.job]) for item in running), flush=True)
    finally:
        for item in running:  # the queue was interrupted: its runs resume with the same command
            item.process.terminate()
        for item in running:
            item.process.wait()
    return [code for code in codes if code is not None]


def names_of(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Arm and seed of each run; UserError where two would have one folder."""
    names = [f"{arm_name(job)}/seed{_seed(job)}" for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"Several jobs would train in one folder: {', '.join(twice)}. What names no arm (logger, task, probe, loader) cannot be swept."
        )
    return names


def at_a_time(parallel: int | None, processes: int, gpus: int, threads: int) -> int:
    """How many runs go together: what is named, else as many as the GPUs or, without any, the cores are enough for."""
    cores = len(os.sched_getaffinity(0))
    return parallel or gpus // processes or max(1, cores // max(1, threads * processes))


def visible_gpus() -> list[str]:
    """The GPUs that a run may be given, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    return [str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]


def command(
    overrides: list[str], processes: int, *, python: str = sys.executable, train: str = str(TRAIN)
) -> list[str]:
    """What starts one run: train.py, by torchrun where the run has several processes. python, train: by these names, as in sweep files."""
    if processes == 1:
        return [python, train, *overrides]
    torchrun = [python, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # A run that is asked to stop saves its state first, which may take longer than the 30 s that torchrun gives by itself.
    patient = [f"--signals-to-handle={','.join(_TOLD)}", f"--shutdown-timeout={_SAVES_WITHIN_S}"]
    return [*torchrun, *patient, train, *overrides]


def check_settings(parallel: int | None, processes: int, gpus: list[str]) -> None:
    """UserError for settings of hydra.launcher that cannot be."""
    for key, value in (("parallel", parallel), ("processes", processes)):
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"hydra.launcher.{key}={value} must be a whole number, at least 1.")
    if gpus and processes > len(gpus):
        raise UserError(
            f"hydra.launcher.processes={processes} needs as many GPUs, and there are {len(gpus)} here: name fewer, or train.device=cpu."
        )


def _start(job: int, line: list[str], gpus: str | None) -> _Running:
    output = tempfile.TemporaryFile()  # noqa: SIM115  # closed in _say_end
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpus} if gpus is not None else {})
    process = subprocess.Popen(line, stdout=output, stderr=output, env=environment)
    return _Running(job, process, output, gpus, time.monotonic())


def _say_end(item: _Running, name: str, study_folder: Path) -> int:
    """Says how a run ended; gives its exit code."""
    minutes, run, code = (time.monotonic() - item.start) / 60, study_folder / name, item.process.returncode
    item.output.seek(0)
    lines = _own_lines(item.output.read().decode(errors="replace").strip().splitlines())
    item.output.close()
    if code and (read_status(run) or {}).get("state") == "preempted":
        code = INTERRUPTED  # of which torchrun makes a 1
    if code == 0:
        print(f"{name}: finished after {minutes:.1f} minutes", flush=True)
    elif code == INTERRUPTED:
        print(f"{name}: stopped; the same command goes on from there", flush=True)
    else:
        print(
            f"{name}: failed (exit code {code})",
            *[line for line in lines if line.strip()][-8:],
            sep="\n    ",
            flush=True,
        )
        if (run / "log.txt").is_file():
            print(f"    all of it: {run / 'log.txt'}", flush=True)
    return code


def _own_lines(lines: list[str]) -> list[str]:
    """`lines` without torchrun's own."""
    own = []
    for line in lines:
        if not _OF_TORCHRUN.match(line):
            own.append(line)
        elif _LAST_WORDS in line:
            break
    return own


def _progress(run: Path) -> str:
    status = read_status(run)
    if status is None:
        return f"{run.parent.name}/{run.name}: preparing"
    return f"{run.parent.name}/{run.name}: step {status['step']} of {status['total_steps']}"


def _seed(overrides: Sequence[str]) -> str:
    return next((o.split("=", 1)[1] for o in overrides if o.startswith("seed=")), "0")
