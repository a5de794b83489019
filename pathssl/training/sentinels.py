"""What watches a run: collapse, stalls of the loader, and the end of memory, each said in a sentence that names a cure."""

import logging
import math
from collections.abc import Mapping

import torch

log = logging.getLogger(__name__)
_UNIFORM, _UNIFORM_ROWS, _UNIFORM_AFTER = 0.99, 3, 0.1  # of ln K; rows in a row; a fraction of training
_ONE_PROTOTYPE = 0.05  # of ln K
_ONE_DIRECTION = 1.5  # RankMe
_CPU_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"


class Collapsed(RuntimeError):
    """A run was stopped because its targets or features had collapsed."""


class Sentinels:
    """Warns once of each kind of collapse, and with `stop_on_collapse` raises Collapsed instead; names waits above `stall_s`.

    prototypes: {prefix of the terms: number of prototypes K}, such as {"": 65536, "patch_": 65536}.
    """

    def __init__(self, prototypes: dict[str, int], stop_on_collapse: bool, stall_s: float):
        self.prototypes, self.stop_on_collapse, self.stall_s = prototypes, stop_on_collapse, stall_s
        self.uniform_rows = dict.fromkeys(prototypes, 0)
        self.untrained_rank: float | None = None
        self.said: set[str] = set()

    def look(self, row: Mapping[str, float], progress: float) -> None:
        """Looks at a row of metrics.jsonl, written after the fraction `progress` of training. Entropies are in nats, at most ln K.

        The row of step 0 tells what RankMe was untrained, so a resumed run shows that row first.
        """
        for prefix, prototypes in self.prototypes.items():
            kind = "patches' targets" if prefix else "targets"
            self._look_at_targets(row, progress, prefix, math.log(prototypes), kind)
        rank = row.get("unsupervised/rankme")
        if rank is not None and row["step"] == 0:
            self.untrained_rank = rank
        elif rank is not None and self.untrained_rank is not None and rank < _ONE_DIRECTION <= self.untrained_rank:
            self._say(
                "features",
                row,
                f"all features point in nearly one direction: RankMe is {rank:.2f}, and was {self.untrained_rank:.2f} untrained. A lower "
                "optim.base_lr, a longer schedule.warmup or a higher teacher.momentum are the usual cures.",
            )

    def waited(self, step: int, seconds: float) -> None:
        """Names the wait for the patches of `step` where it was a stall."""
        if seconds > self.stall_s:
            log.warning(
                "Step %d waited %.0f s for its patches (sentinel.stall_s=%g): the slides are read too slowly, or the storage stood still. "
                "`python -m pathssl doctor`, with this run's options, measures it; loader.workers, loader.prefetch and region help.",
                step,
                seconds,
                self.stall_s,
            )

    def _look_at_targets(self, row: Mapping[str, float], progress: float, prefix: str, most: float, kind: str) -> None:
        entropy, of_mean = (row.get(f"train/{prefix}{name}") for name in ("teacher_entropy", "batch_entropy"))
        at_most = f"nats, of at most ln K = {most:.3f}"
        if entropy is not None and progress > _UNIFORM_AFTER:
            self.uniform_rows[prefix] = self.uniform_rows[prefix] + 1 if entropy >= _UNIFORM * most else 0
            if self.uniform_rows[prefix] >= _UNIFORM_ROWS:
                self._say(
                    f"uniform {kind}",
                    row,
                    f"the teacher's {kind} are uniform: their entropy was {entropy:.3f} {at_most}, in {_UNIFORM_ROWS} rows in a row. There "
                    "is nothing to learn from them. A lower objective.teacher_temperature, a longer objective.warmup_teacher_fraction and "
                    "a lower objective.centre_momentum are the usual cures.",
                )
        if of_mean is not None and of_mean < _ONE_PROTOTYPE * most:
            self._say(
                f"one prototype for all {kind}",
                row,
                f"the teacher's {kind} are one prototype for all: the entropy of their mean over the batch is {of_mean:.3f} {at_most}. "
                "objective.centring=sinkhorn, a higher objective.teacher_temperature and a lower optim.base_lr are the usual cures.",
            )

    def _say(self, kind: str, row: Mapping[str, float], what: str) -> None:
        if kind in self.said:
            return
        self.said.add(kind)
        sentence = f"Collapse at step {row['step']}: {what}"
        if self.stop_on_collapse:
            raise Collapsed(f"{sentence} The run was stopped, as sentinel.stop_on_collapse=true asks.")
        log.warning("%s", sentence)


def out_of_memory(error: BaseException, micro_batch: int) -> str | None:
    """The sentence for an error that says that memory has run out on `micro_batch` patches at a time; None for other errors."""
    if not isinstance(error, torch.OutOfMemoryError) and _CPU_OUT_OF_MEMORY not in str(error):
        return None
    where = "GPU" if isinstance(error, torch.OutOfMemoryError) else "machine"
    first = str(error).strip().partition("\n")[0]
    smaller = "a higher parallel.accumulate, so that fewer pass at a time, or " if micro_batch > 1 else ""
    return (
        f"The {where} has not enough memory for {micro_batch} patches at a time ({first}). What is learned stays the same with {smaller}"
        "parallel.activation_checkpointing=true, where it is not on yet; a smaller batch.size takes less too, and changes what is learned."
    )
