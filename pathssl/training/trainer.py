"""The loop: batches in, checkpoints and metrics out."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pathssl.augment import MultiCrop
from pathssl.data.coverage import Coverage
from pathssl.data.loader import Batch, Loader
from pathssl.probes.evaluate import Probes
from pathssl.records import cut_metrics, read_metrics, write_coverage, write_probe
from pathssl.replaced import append_replaced, cut_replaced
from pathssl.schedules import cosine, warmup_cosine
from pathssl.seeding import integer_seed
from pathssl.training.checkpoints import Checkpoints
from pathssl.training.feed import on_device
from pathssl.training.optimiser import clip_gradients, create_optimiser, set_rates
from pathssl.training.tracking import Tracker
from pathssl.training.window import Window

log = logging.getLogger(__name__)
_SLOW_DATA = 0.2  # of the time


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run: durations `warmup` and `freeze_last_layer` are fractions of training."""

    total_steps: int
    batch_size: int
    lr: float
    final_lr: float
    warmup: float
    weight_decay: float
    final_weight_decay: float
    momentum: float
    final_momentum: float
    betas: tuple[float, float]
    clip_grad: float | None
    freeze_last_layer: float
    checkpoint_every: float
    log_every: float

    def values(self, step: int) -> dict[str, float]:
        """Every scheduled value at `step`."""
        progress = step / self.total_steps
        return {
            "progress": progress,
            "lr": warmup_cosine(self.lr, self.final_lr, self.warmup, progress),
            "weight_decay": cosine(self.weight_decay, self.final_weight_decay, progress),
            "teacher_momentum": cosine(self.momentum, self.final_momentum, progress),
        }

    def checkpoint_steps(self) -> set[int]:
        return self._every(self.checkpoint_every)

    def log_steps(self) -> set[int]:
        return self._every(self.log_every) | self.checkpoint_steps()

    def _every(self, fraction: float) -> set[int]:
        interval = max(1, round(fraction * self.total_steps))
        return {*range(0, self.total_steps, interval), self.total_steps}


class Trainer:
    """Trains `objective` in the folder `run`, from its last checkpoint if there is one.

    `report(step)` is called at every logged step, to keep the run's status.
    """

    def __init__(
        self,
        *,
        run: Path,
        objective: nn.Module,
        views: MultiCrop,
        loader: Loader,
        probes: Probes,
        tracker: Tracker,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        bf16: bool,
        report: Callable[[int], None],
    ):
        self.run, self.objective, self.views, self.loader = run, objective.to(device).train(), views, loader
        self.probes, self.tracker, self.recipe, self.seed = probes, tracker, recipe, seed
        self.device, self.report = device, report
        self.autocast = torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
        self.optimiser = create_optimiser(objective.student, recipe.betas)
        self.parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.checkpoints = Checkpoints(run)
        self.time_s = 0.0
        self.said_slow, self.lines = False, 0
        self.coverage = Coverage(loader.reader.sampler)

    def fit(self) -> None:
        """Trains to the last step. Whatever kills it, calling it again goes on from the last checkpoint."""
        first = self._resume()
        checkpoint_steps, log_steps = self.recipe.checkpoint_steps(), self.recipe.log_steps()
        window = Window(self.device)
        for batch, patches_BHWC in on_device(self.loader.batches(first, self.recipe.total_steps), self.device):
            window.arrived(batch)
            self._count(batch)
            terms = self._step(batch, patches_BHWC)
            window.add(terms, self.recipe.batch_size)
            done = batch.step + 1
            if done in log_steps:
                row = self._row(done) | window.row()
                self.time_s += window.elapsed_s()
                row["time_s"] = self.time_s
                if done in checkpoint_steps:
                    self._checkpoint(done, row)
                    self._probe_and_log(done, row)
                else:
                    self.tracker.log(row)
                self._say(row)
                self.report(done)
                window = Window(self.device)

    def _step(self, batch: Batch, patches_BHWC: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step of the student, then of the teacher; gives the objective's terms."""
        values = self.recipe.values(batch.step)
        # What is drawn inside the model (stochastic depth) follows from the step, so that a resumed run draws the same.
        torch.manual_seed(integer_seed(self.seed, "step", batch.step))
        views = self.views(patches_BHWC, batch.patches.draws.views_seed)
        with self.autocast:
            terms = self.objective(views, values)
        if not torch.isfinite(terms["loss"]):
            raise FloatingPointError(
                f"The loss of step {batch.step} is {terms['loss'].item()}; the step was not taken. A lower optim.base_lr, a longer "
                "schedule.warmup or a stronger optim.clip_grad are the usual cures."
            )
        terms["loss"].backward()
        if values["progress"] < self.recipe.freeze_last_layer:
            for parameter in self.objective.last_layer():
                parameter.grad = None
        terms["grad_norm"] = clip_gradients(self.parameters, self.recipe.clip_grad)
        set_rates(self.optimiser, values["lr"], values["weight_decay"])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.objective.after_step(values)
        return terms

    def _row(self, done: int) -> dict[str, float]:
        values = self.recipe.values(done - 1)
        return {
            "step": done,
            "patches_seen": done * self.recipe.batch_size,
            "train/lr": values["lr"],
            "train/weight_decay": values["weight_decay"],
            "train/teacher_momentum": values["teacher_momentum"],
        }

    def _resume(self) -> int:
        """The step to go on from: the last checkpoint's, whose probes are made if the run was killed before them."""
        state = self.checkpoints.load_last(self.device)
        if state is None:
            cut_metrics(self.run, -1)
            cut_replaced(self.run, 0)
            row = {"step": 0, "patches_seen": 0, "time_s": 0.0}
            self._checkpoint(0, row)
            self._probe_and_log(0, row)
            self.report(0)
            return 0
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        step, self.time_s = state["row"]["step"], state["row"]["time_s"]
        cut_metrics(self.run, step)
        cut_replaced(self.run, step)
        self.coverage.restore(state["coverage"]["patches"].cpu().numpy(), state["coverage"]["replaced"])
        write_coverage(self.run, step, self.coverage.table())
        if step not in {row["step"] for row in read_metrics(self.run)}:
            self._probe_and_log(step, state["row"])
        log.info("Resumed at step %d of %d.", step, self.recipe.total_steps)
        self.report(step)
        return step

    def _count(self, batch: Batch) -> None:
        """Adds the batch to the coverage. Draws that failed are written down; each slide is named in the log once."""
        patches, done = batch.patches, batch.step + 1
        if patches.replaced:
            append_replaced(self.run, done, patches.replaced)
        for slide, reason in self.coverage.add(patches.draws, patches.replaced):
            log.warning("%s cannot be read everywhere, and other patches are taken instead: %s", slide, reason)

    def _checkpoint(self, step: int, row: dict[str, float]) -> None:
        coverage = {"patches": torch.from_numpy(self.coverage.patches), "replaced": self.coverage.replaced}
        state = {"objective": self.objective.state_dict(), "optimiser": self.optimiser.state_dict()}
        state |= {"coverage": coverage, "row": row}
        self.checkpoints.save(step, self.objective.teacher["encoder"].state_dict(), state)
        write_coverage(self.run, step, self.coverage.table())

    def _probe_and_log(self, step: int, row: dict[str, float]) -> None:
        """Stores what the probes say of the teacher, and writes the step's one line."""
        outcome = self.probes.run(self.objective.teacher["encoder"], device=self.device, with_nulls=step == 0)
        seen = row["patches_seen"]
        for task, result in outcome.tasks.items():
            write_probe(
                self.run,
                step=step,
                patches_seen=seen,
                task=task,
                results=result.results,
                predictions=result.predictions,
            )
        self.tracker.log(row | outcome.metrics)
        for key, value in outcome.metrics.items():
            if key.endswith("test/balanced_accuracy") or key.startswith("unsupervised/"):
                log.info("step %6d  %s %.3f", step, key, value)

    def _say(self, row: dict[str, float]) -> None:
        self.lines += 1
        if row["train/data_wait"] > _SLOW_DATA and not self.said_slow and self.lines > 1:  # at first, workers start
            self.said_slow = True
            log.info(
                "Training waits for patches %.0f %% of the time: more loader.workers or slides on a faster disk would help "
                "(python -m pathssl doctor measures which).",
                100 * row["train/data_wait"],
            )
        log.info(
            "step %6d of %d  loss %.4f  %.0f patches/s  waiting for data %.0f %%",
            row["step"],
            self.recipe.total_steps,
            row["train/loss"],
            row["train/patches_per_s"],
            100 * row["train/data_wait"],
        )
