"""Lives of small runs, forked from a process that has imported everything, and killed: `many_kills.py FOLDER KILLS OVERRIDES...`

Prints, as JSON, how many runs there were, what each kill hit, and what was found wrong.
"""

import copy
import json
import os
import random
import shutil
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pathssl.slides import cucim_reader

cucim_reader.available()  # before torch

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from pathssl.cli import compose  # noqa: E402
from pathssl.identity import run_folder  # noqa: E402
from pathssl.launch.differences import compare  # noqa: E402
from pathssl.records import read_coverage, read_metrics, read_status  # noqa: E402
from pathssl.run import run  # noqa: E402
from pathssl.training.checkpoints import STATE, TEACHER, Checkpoints, load_state  # noqa: E402

_POLL_S, ARM = 0.0005, "arm"


def begin(config: dict, folder: Path) -> int:
    """The process id of a life of the run: what train.py does once everything is imported. What it says goes to FOLDER/said.txt."""
    child = os.fork()
    if child:
        return child
    said = os.open(folder / "said.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    code = 1
    try:
        run(copy.deepcopy(config), ARM)
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:  # what the parent does at its exit is not the child's to do
        os._exit(code)


def ends(child: int, happened: Callable[[], bool]) -> int | None:
    """None once it has happened; the exit code, or minus the signal, where the child ended before."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if happened():
            return None
        time.sleep(_POLL_S)


def passed(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def names(run_: Path) -> set[str]:
    """Of checkpoints, whole and half-written."""
    return {path.name for path in (run_ / "checkpoints").glob("*step_*")}


def half_written(run_: Path) -> set[tuple[str, int]]:
    found = set()
    for path in (run_ / "checkpoints").glob(".step_*"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def faults(run_: Path) -> list[str]:
    """What of a killed run's folder is not whole."""
    found, checkpoints = [], Checkpoints(run_)
    steps = checkpoints.steps()
    for step in steps:
        if not load_file(checkpoints.path(step) / TEACHER):
            found.append(f"the teacher of step {step} is empty")
    with_state = [step for step in steps if (checkpoints.path(step) / STATE).is_file()]
    if with_state[-1:] != steps[-1:]:
        found.append(f"the last checkpoint, of step {steps[-1]}, has no training state")
    for step in with_state:
        if load_state(checkpoints.path(step) / STATE)["row"]["step"] != step:
            found.append(f"the state of step {step} is another's")
    for read in (read_status, read_coverage, read_metrics):  # each raises where a file is half
        read(run_)
    return found


class Shooting:
    """Kills lives of the run of `config` in folders below `folder`, and compares those that came to their end with an unbroken one."""

    def __init__(self, config: dict, folder: Path):
        self.config, self.folder, self.random = config, folder, random.Random(0)
        self.reference = run_folder(config, ARM)
        self.kills, self.wrong, self.runs = [], [], 0
        self._unbroken()  # writes the cohort and the index, where they are not there yet
        shutil.rmtree(self.reference)
        self.length_s, self.save_s = self._unbroken()

    def _unbroken(self) -> tuple[float, float]:
        """How long a life takes, and the median of its saves: on a busy machine one of them may take ten times as long."""
        child, start, saves, saving_since = begin(self.config, self.folder), time.monotonic(), [], None
        while (code := ends(child, lambda: True)) is None:
            now, saving = time.monotonic(), bool(half_written(self.reference))
            if saving_since is not None and not saving:
                saves.append(now - saving_since)
            saving_since = (saving_since or now) if saving else None
            time.sleep(_POLL_S)
        assert code == 0, (self.folder / "said.txt").read_text()
        return time.monotonic() - start, statistics.median(saves)

    def enough(self, kills: int) -> bool:
        """So many kills in all, a tenth of them within a save; saves are short, so that it gives up at twice as many."""
        in_saves = sum(kill["in_save"] for kill in self.kills)
        return len(self.kills) >= kills and (in_saves >= kills // 10 or len(self.kills) >= 2 * kills)

    def run(self, kills: int) -> None:
        """One run to its end, killed until there were enough."""
        config = self.config | {"output_dir": str(self.folder / f"run{self.runs}")}
        run_ = run_folder(config, ARM)
        while (code := self._live(config, run_, kill=not self.enough(kills))) == -signal.SIGKILL:
            self.wrong += faults(run_)
        self.runs += 1
        if code != 0:
            self.wrong.append(f"run {self.runs} ended with exit code {code}:\n{(self.folder / 'said.txt').read_text()}")
            return
        self.wrong += [f"{item.what}: {item.first}" for item in compare(run_, self.reference) if item.different]
        shutil.rmtree(config["output_dir"])

    def _live(self, config: dict, run_: Path, kill: bool) -> int:
        """The exit code of one life."""
        left_over, child = half_written(run_), begin(config, self.folder)
        if not kill:
            return ends(child, lambda: False)
        code = ends(child, passed(self.random.uniform(0, self.length_s)))
        if code is None and self.random.random() < 1 / 3:  # within a save, or just after it
            known = names(run_)
            code = ends(child, lambda: bool(names(run_) - known))
            code = ends(child, passed(self.random.uniform(0, 1.5 * self.save_s))) if code is None else code
        if code is not None:
            return code
        os.kill(child, signal.SIGKILL)
        code = ends(child, lambda: False)
        if code == -signal.SIGKILL:
            saved = Checkpoints(run_).steps()
            in_save = bool(half_written(run_) - left_over)
            self.kills.append({"saved": saved[-1] if saved else None, "in_save": in_save})
        return code


def main(folder: Path, kills: int, overrides: list[str]) -> dict:
    torch.set_num_threads(1)
    start = time.monotonic()
    shooting = Shooting(compose([*overrides, f"output_dir={folder / 'unbroken'}"]), folder)
    while not shooting.enough(kills) and not shooting.wrong:
        shooting.run(kills)
    return {
        "length_s": shooting.length_s,
        "save_s": shooting.save_s,
        "runs": shooting.runs,
        "kills": shooting.kills,
        "wrong": shooting.wrong,
        "time_s": time.monotonic() - start,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
