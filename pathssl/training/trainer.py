"""The loop: batches in, checkpoints and metrics out."""

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pathssl.data.coverage import Coverage
from pathssl.data.loader import Batch, Loader
from pathssl.determinism import no_such_kernel
from pathssl.distributed import from_main, gathered, is_main
from pathssl.records import cut_metrics, read_metrics, write_coverage
from pathssl.replaced import append_replaced, cut_replaced
from pathssl.training.capsule import write_capsule
from pathssl.training.checkpoints import Checkpoints
from pathssl.training.feed import on_device
from pathssl.training.interrupt import Interrupt, Interrupted
from pathssl.training.journal import Journal
from pathssl.training.parallel import as_written
from pathssl.training.sentinels import Sentinels, out_of_memory
from pathssl.training.state import gather, restore
from pathssl.training.step import NotFinite, Step
from pathssl.training.window import Window

log = logging.getLogger(__name__)
_TEACHER = "teacher.encoder."
_CURES = "A lower optim.base_lr, a longer schedule.warmup or a stronger optim.clip_grad are the usual cures."


class Trainer:
    """Trains in the folder `run`, from its last checkpoint if there is one.

    Every process of the run has one; the first writes the folder. `keep(steps)` says which checkpoints' teachers stay. Between checkpoints
    the state is saved every `save_every_s`. probe_late: begins to probe the checkpoints that are there, elsewhere; None: the journal
    does it.
    """

    def __init__(
        self,
        *,
        run: Path,
        step: Step,
        loader: Loader,
        journal: Journal,
        sentinels: Sentinels,
        keep: Callable[[list[int]], list[int]],
        save_every_s: float,
        probe_late: Callable[[], None] | None = None,
    ):
        self.run, self.step, self.loader = run, step, loader
        self.recipe, self.device, self.objective = step.recipe, step.device, step.objective
        self.journal, self.sentinels, self.keep = journal, sentinels, keep
        self.checkpoints = Checkpoints(run)
        self.coverage = Coverage(loader.reader.sampler)
        self.replaced: list[tuple[int, tuple[int, str, str]]] = []  # since the last log line
        self.window = Window(self.device)
        self.time_s = 0.0
        self.save_every_s, self.saved_s = save_every_s, time.monotonic()
        self.probe_late = probe_late

    def fit(self) -> None:
        """Trains to the last step. Whatever kills it, calling it again goes on from the last checkpoint."""
        checkpoint_steps, log_steps = self.recipe.checkpoint_steps(), self.recipe.log_steps()
        with Interrupt() as interrupt:
            first = self._resume()
            for batch, patches_BHWC in on_device(self.loader.batches(first, self.recipe.total_steps), self.device):
                self._arrived(batch)
                if batch.step == first:
                    self.step.settle(self._first_patch(batch), patches_BHWC, batch.patches.draws.views_seed)
                self.window.add(self._take(batch, patches_BHWC), self.recipe.batch_size)
                done = batch.step + 1
                if done in log_steps:
                    self._log(done, checkpoint=done in checkpoint_steps)
                stop, save = interrupt.agreed(save=time.monotonic() - self.saved_s > self.save_every_s)
                if (stop or save) and done < self.recipe.total_steps:
                    if done not in checkpoint_steps:
                        self._save_between(done)
                    if stop:
                        self._stop(done)
            self._written()

    def _first_patch(self, batch: Batch) -> int:
        """The number in the run of the first patch of this process's share."""
        return batch.step * self.recipe.batch_size + self.loader.rows.start

    def _take(self, batch: Batch, patches_BHWC: torch.Tensor) -> dict[str, torch.Tensor]:
        first_patch = self._first_patch(batch)
        seeds_B = batch.patches.draws.views_seed
        try:
            return self.step.take(batch.step, first_patch, patches_BHWC, seeds_B)
        except NotFinite as failure:
            self._keep_capsule(
                batch.step,
                failure.what,
                {
                    "first_patch": first_patch,
                    "patches": len(seeds_B),
                    "views_seeds": seeds_B.tolist(),
                    "micro_batch": [failure.rows.start, failure.rows.stop],
                    "terms": {name: str(value) for name, value in failure.terms.items()},  # JSON knows no NaN
                },
            )
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if (sentence := out_of_memory(error, self.step.micro_batch) or no_such_kernel(error)) is None:
                raise
            raise RuntimeError(sentence) from error

    def _log(self, done: int, *, checkpoint: bool) -> None:
        """Writes the line of metrics.jsonl; at a checkpoint that comes first, and the probes fill the line."""
        values = self.recipe.values(done - 1)
        row = self._place(done) | {f"train/{name}": values[name] for name in ("lr", "weight_decay", "teacher_momentum")}
        self._write_replaced()
        row |= self.window.row()
        self.time_s += self.window.elapsed_s()
        row["time_s"] = self.time_s
        self.window = Window(self.device)
        self._write(row, self._checkpoint(row) if checkpoint else None)
        self.window.start_again()

    def _write(self, row: dict[str, float], weights: dict[str, torch.Tensor] | None) -> None:
        """Writes the line of a step, with what probes say where it has the `weights` of a checkpoint."""
        with as_written():
            self.journal.line(row, self._probed(weights) if weights and self.probe_late is None else None)
        if is_main() and weights:
            self.checkpoints.tidy(self.keep)
            if self.probe_late is not None:
                self.checkpoints.then(self.probe_late)  # when the checkpoint is whole

    def _place(self, done: int) -> dict[str, float]:
        return {"step": done, "patches_seen": done * self.recipe.batch_size}

    def _resume(self) -> int:
        """The step to go on from: the last checkpoint's, whose probes are made if the run was killed before them."""
        if is_main():
            self.checkpoints.clean()
        from_main(None)  # nobody reads before that
        state = self.checkpoints.load_last()
        if is_main():
            cut_metrics(self.run, -1 if state is None else state["row"]["step"])
            cut_replaced(self.run, 0 if state is None else state["row"]["step"])
        if state is None:
            row = self._place(0) | {"time_s": 0.0}
            self._write(row, self._checkpoint(row))
            step = 0
        else:
            restore(self.objective, self.step.optimiser, state)
            step, self.time_s = state["row"]["step"], state["row"]["time_s"]
            if is_main():  # what all processes counted together
                counted = state["coverage"] | {"patches": state["coverage"]["patches"].numpy()}
                self.coverage.restore(counted)
                write_coverage(self.run, step, self.coverage.table(counted))
            if state["window"] is not None:
                self.window.restore(state["window"])
            elif from_main(is_main() and step not in {row["step"] for row in read_metrics(self.run)}):
                self._write(state["row"], self._weights(state) if is_main() else None)
            log.info("Resumed at step %d of %d.", step, self.recipe.total_steps)
            if is_main() and self.probe_late is not None:  # what was to do it may have died too
                self.probe_late()
        self.journal.opened(step)
        self.window.start_again()
        return step

    def _arrived(self, batch: Batch) -> None:
        """Adds the batch to the coverage. Draws that failed are written down; each slide is named in the log once."""
        self.window.arrived(batch)
        self.sentinels.waited(batch.step + 1, batch.waited_s)
        self.replaced += [(batch.step + 1, fault) for fault in batch.patches.replaced]
        for slide, reason in self.coverage.add(batch.step + 1, batch.patches.draws, batch.patches.replaced):
            log.warning("%s cannot be read everywhere, and other patches are taken instead: %s", slide, reason)

    def _write_replaced(self) -> None:
        """Writes the draws that failed in all processes since the last time to replaced.jsonl."""
        replaced = sorted(fault for of_one in gathered(self.replaced) for fault in of_one)
        for step in sorted({step for step, _ in replaced}):
            append_replaced(self.run, step, [fault for at, fault in replaced if at == step])
        self.window.replaced += len(replaced)
        self.replaced = []

    def _checkpoint(self, row: dict[str, float], window: list[dict[str, Any]] | None = None) -> dict[str, torch.Tensor]:
        """Saves the state after row["step"]; gives the teacher's weights, in the first process."""
        step = int(row["step"])
        if not self.step.finite():
            raise FloatingPointError(
                f"The weights after step {step} are no finite numbers, or too large to compute with, and were not saved; the checkpoint "
                f"before is whole. {_CURES}"
            )
        state = gather(self.objective, self.step.optimiser)
        counted = gathered(self.coverage.state())
        self.saved_s = time.monotonic()
        if not is_main():
            return {}
        counted = self.coverage.merged(counted)
        kept = counted | {"patches": torch.from_numpy(counted["patches"])}
        # A copy of the row, which the probes are about to fill.
        whole = state | {"coverage": kept, "row": {**row}, "window": window}
        self.checkpoints.save(step, self._weights(state), whole)
        write_coverage(self.run, step, self.coverage.table(counted))
        return self._weights(state)

    @staticmethod
    def _weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The teacher's encoder by timm's names."""
        objective = state["objective"]
        return {name.removeprefix(_TEACHER): objective[name] for name in objective if name.startswith(_TEACHER)}

    def _save_between(self, done: int) -> None:
        """Saves the state after step `done`, at which there is no checkpoint to probe."""
        self._write_replaced()
        self._checkpoint(self._place(done) | {"time_s": self.time_s}, self.window.state())
        if is_main():
            self.checkpoints.tidy(self.keep)

    def _stop(self, done: int) -> None:
        """Leaves after step `done`, whose state is saved."""
        self._written()
        self.journal.stopped(done)
        raise Interrupted(f"Stopped after step {done}; the same command goes on from there.")

    def _written(self) -> None:
        """Returns when the last checkpoint is on disk: for all processes together, since what started them ends all after the first."""
        self.checkpoints.wait()
        from_main(None)

    def _keep_capsule(self, step: int, what: str, account: dict[str, Any]) -> None:
        """Keeps what is needed to compute the failed step again, then fails."""
        self._write_replaced()  # the step's own too, without which its patches would not be known
        accounts, state = gathered(account), gather(self.objective, self.step.optimiser)
        self.checkpoints.wait()
        capsule = None
        if is_main():
            values = self.recipe.values(step)
            whole = {
                "failed": what,
                "seed": self.step.seed,
                "values": values,
                "micro_batch": self.step.micro_batch,
                "processes": accounts,
            }
            capsule = write_capsule(self.run, step + 1, whole, state)
        raise FloatingPointError(
            f"The {what} of step {step + 1} is not a finite number; the step was not taken. {_CURES} "
            f"Look at it: python -m pathssl replay {from_main(capsule)}"
        )

    def _probed(self, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
        """The teacher's encoder; a whole copy of it where the model is in parts."""
        if self.step.parallel.mode != "fsdp":
            return self.objective.teacher.encoder
        encoder = copy.deepcopy(self.step.parallel.plain_encoder).to(self.device)
        encoder.load_state_dict(weights, strict=True)
        return encoder
