"""The proof that a config resumes to the bit: real runs of it, killed and started again, against one that nothing broke."""

import logging
import re
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pathssl import parts
from pathssl.checks import check
from pathssl.errors import CALLED_WRONGLY, UserError
from pathssl.identity import arm_name, run_folder
from pathssl.launch.differences import Compared, compare, compare_losses, same_patches
from pathssl.launch.lives import Kill, Life, Moment, Timeline
from pathssl.launch.local import command, visible_gpus
from pathssl.records import read_status
from pathssl.report.words import plural
from pathssl.seeding import uniforms

log = logging.getLogger(__name__)
_SAVE_EVERY = 3  # steps
_ALONE, _TOGETHER = "unbroken", "together"  # the runs that others are held against
_SIGNALS = (signal.SIGKILL, signal.SIGTERM)
_AT_SAVES = 4  # every so many kills one waits for a save, beginning with the third: a SIGKILL
# Of a loss, relative, between one process and several, which sum in another order: over 40 steps of small models that made up to 4e-7 in
# float32, and 8e-5 in bfloat16 under fsdp, whose gradients are rounded before they are summed.
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-3}


class NoProof(RuntimeError):
    """Even the run that nobody broke failed."""


@dataclass
class Proved:
    """What came of one way to run: its kills, and comparisons with the unbroken run; or how it failed, and what it said then."""

    name: str
    kills: list[Kill] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    fault: str | None = None
    said: str | None = None

    def fail(self, fault: str, said: str) -> "Proved":
        self.fault, self.said = fault, said
        return self

    def first_difference(self) -> str | None:
        if self.fault is not None:
            return f"{self.name}: {self.fault}"
        for item in self.compared:
            if item.different:
                return f"{self.name}: {item.different} of {item.count} {item.what} differ; the first: {item.first}"
        return None


def verify_resume(
    config: Mapping[str, Any], overrides: Sequence[str], *, steps: int, kills: int, workers: list[int], processes: int
) -> dict[str, Any]:
    """The answer of the verb, for the `config` of these `overrides`: bit for bit equal, or the first difference.

    One run of `steps` steps is left alone; one for each number of `workers` is killed `kills` times, at moments that follow from the
    config's seed, and started again. processes: of another run, by torchrun, which must see the same patches and have the same losses to
    rounding (the others then compute in as many passes what its processes compute together), and of one more, which is killed as often and
    must equal that one to the bit.
    """
    check(config)
    accumulate = config["parallel"]["accumulate"] * processes
    _check(config, steps, kills, workers, processes)
    save_every = min(_SAVE_EVERY, steps) / steps
    budget = [f"train.patches={steps * config['batch']['size']}", f"train.log_every={1 / steps}"]
    line = [*overrides, *budget, f"train.checkpoint_every={save_every}", "logger.wandb=null"]
    with tempfile.TemporaryDirectory(prefix="pathssl-verify-resume-") as folder:
        proof = _Proof(config, line, Path(folder), steps)
        passes = f"parallel.accumulate={accumulate}"
        timeline = proof.unbroken([passes])
        proved = []
        for number in workers:
            name = f"loader.workers={number}"
            proved.append(proof.broken(name, [name, passes], 1, timeline, kills, _ALONE))
        ratio = None
        if processes > 1:
            together, ratio, timeline = proof.together(processes)
            proved.append(together)
            if together.first_difference() is None:
                proved.append(proof.broken(f"{processes} processes, killed", [], processes, timeline, kills, _TOGETHER))
    return _answer(proved, steps, ratio)


def _check(config: Mapping[str, Any], steps: int, kills: int, workers: list[int], processes: int) -> None:
    for name, value, least in (("steps", steps, 2), ("kills", kills, 1), ("processes", processes, 1)):
        if value < least:
            raise UserError(f"--{name} {value}: give {least} or more.")
    if not workers or min(workers) < 0:
        raise UserError(f"--workers {','.join(map(str, workers))}: give numbers of workers, as in --workers 0,2.")
    size, passes = config["batch"]["size"], config["parallel"]["accumulate"] * processes
    if size % passes:
        raise UserError(
            f"batch.size={size} cannot be shared equally by --processes {processes} with parallel.accumulate={passes // processes}."
        )
    if parts.device(config["train"]["device"]) == "cuda" and 1 < processes > len(visible_gpus()):
        raise UserError(
            f"--processes {processes} needs as many GPUs, and there are {len(visible_gpus())} here: name fewer, or train.device=cpu."
        )


class _Proof:
    """Runs of one command line in folders below `folder`, each compared with the first, `unbroken`."""

    def __init__(self, config: Mapping[str, Any], line: list[str], folder: Path, steps: int):
        self.config, self.line, self.folder, self.steps = config, line, folder, steps

    def unbroken(self, more: list[str]) -> Timeline:
        """The timeline of the run that is left alone."""
        line, run = self._command(_ALONE, more, 1)
        log.info("An unbroken run of %s ...", plural(self.steps, "step"))
        with Life(line, run, _ALONE) as life:
            timeline = life.watch()
            if (code := life.process.returncode) == CALLED_WRONGLY:
                raise UserError(life.words())
            if code:
                raise NoProof(
                    f"Nothing is proved: the unbroken run, whose folder is gone, ended with exit code {code}:\n{life.words()}"
                )
        log.info("... trained for %.1f s.", timeline.length_s)
        return timeline

    def broken(
        self, name: str, more: list[str], processes: int, timeline: Timeline, kills: int, reference: str
    ) -> Proved:
        """The run by that name with `more` overrides, killed `kills` times, against the unbroken one in the place `reference`."""
        line, run = self._command(re.sub(r"\W+", "_", name), more, processes)
        proved = Proved(name)
        places = uniforms(self.config["seed"], f"verify-resume {name}", np.arange(kills), 2)
        for number, (place, place_in_save) in enumerate(places):
            at_save = place_in_save if number % _AT_SAVES == 2 else None
            moment = Moment.at(timeline, (number + place) / kills, at_save)  # in the number-th part of the life
            with Life(line, run, name, processes) as life:
                kill = life.kill(_SIGNALS[number % len(_SIGNALS)], moment)
                said = life.words()
            proved.kills.append(kill)
            log.info("%s: %s", name, _told(kill, self.steps))
            if fault := self._fault(kill, run):
                return proved.fail(fault, said)
        with Life(line, run, name, processes) as life:
            if code := life.end():
                return proved.fail(f"it ended with exit code {code}", life.words())
        proved.compared = [item for item in compare(run, self._run(reference)) if item.count or item.different]
        shutil.rmtree(run)  # states are large
        return proved

    def together(self, processes: int) -> tuple[Proved, float, Timeline]:
        """The run of several processes that is left alone, by how much of itself a loss differs at most, and the timeline."""
        name = f"{processes} processes"
        line, run = self._command(_TOGETHER, [], processes)
        proved, ratio = Proved(name), float("inf")
        log.info("The run in %s ...", name)
        with Life(line, run, name, processes) as life:
            timeline = life.watch()
            if code := life.process.returncode:
                return proved.fail(f"it ended with exit code {code}", life.words()), ratio, timeline
        precision, reference = "bf16" if self._bf16() else "fp32", self._run(_ALONE)
        losses, ratio = compare_losses(run, reference, TOLERANCE[precision])
        proved.compared = [same_patches(run, reference), losses]
        return proved, ratio, timeline

    def _fault(self, kill: Kill, run: Path) -> str | None:
        state = (read_status(run) or {}).get("state")
        heard = kill.exit_code > 0 if kill.processes == 1 else kill.must_be_heard(self.steps)
        if heard and kill.fault(self.steps) is None and state != "preempted":
            return f"a run that {kill.signal} had stopped called itself {state}"
        return kill.fault(self.steps)

    def _run(self, place: str) -> Path:
        config = {key: self.config[key] for key in ("study", "seed")} | {"output_dir": str(self.folder / place)}
        return run_folder(config, arm_name(self.line))

    def _command(self, place: str, more: list[str], processes: int) -> tuple[list[str], Path]:
        return command([*self.line, *more, f"output_dir={self.folder / place}"], processes), self._run(place)

    def _bf16(self) -> bool:
        train = self.config["train"]
        return parts.bf16(train["precision"], parts.device(train["device"]))


def _told(kill: Kill, steps: int) -> str:
    """A kill in words."""
    if not kill.sent:
        return f"{kill.signal} came after the end"
    when = "before the first row" if kill.step is None else f"after step {kill.step} of {steps}"
    when += ", in the middle of a save" if kill.in_save else ""
    on = "begins again, as nothing was saved" if kill.saved is None else f"goes on from step {kill.saved}"
    return f"{kill.signal} {when} (exit code {kill.exit_code}); {on}"


def _answer(proved: list[Proved], steps: int, ratio: float | None) -> dict[str, Any]:
    all_kills = [kill for one in proved for kill in one.kills]
    late = sum(not kill.sent for kill in all_kills)
    early = sum(kill.sent and kill.saved is None for kill in all_kills)
    difference = next(filter(None, (one.first_difference() for one in proved)), None)
    counted = (
        f"{plural(len(all_kills), 'kill')}, of which {early} came before anything was saved and {late} after the end"
    )
    if difference is not None:
        verdict = f"Not equal. {difference}."
    elif late == len(all_kills):
        verdict = f"Nothing is proved: {counted}. Give more --steps or --kills."
    else:
        verdict = f"Bit for bit equal: after {counted}, runs of {plural(steps, 'step')} ended as the unbroken one."
        if ratio is not None:
            verdict += f" {proved[-2].name} saw the same patches as one, and their losses differ by at most {ratio:.1e} of themselves."
    return {
        "text": "\n".join([*_table(proved, steps), "", verdict]),
        "equal": difference is None,
        "verdict": verdict,
        "kills": [{"run": one.name, **asdict(kill)} for one in proved for kill in one.kills],
        "compared": [{"run": one.name, **asdict(item)} for one in proved for item in one.compared],
        "greatest_loss_ratio": ratio,
        "broken": not verdict.startswith("Bit"),
    }


def _table(proved: list[Proved], steps: int) -> list[str]:
    lines = []
    for one in proved:
        lines += [one.name, *(f"  {_told(kill, steps)}" for kill in one.kills)]
        for item in one.compared:
            outcome = "equal" if not item.different else f"{item.different} DIFFER"
            lines.append(f"  {item.count:>7,} {item.what:52} {outcome}")
        lines += [f"  {line}" for line in (one.said or "").splitlines()]
    return lines
