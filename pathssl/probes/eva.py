"""The protocol of eva, the evaluation framework of kaiko.ai: a linear layer trained by gradient descent, in several runs.

Axes: R runs, B samples of a batch, N samples, D features, K classes.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pathssl.errors import UserError
from pathssl.probes.feature_set import FeatureSet, ProtocolResult, scored_runs
from pathssl.probes.heads import LinearHeads, accuracies, balanced_accuracies, loss_R, probabilities

OPTIMISERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "constant")
MEASURES = ("balanced_accuracy", "accuracy")


class Eva:
    """A linear layer on features as they are, by mini-batches, with the best state on validation; the mean over `runs`.

    As kaiko-eva 0.4.5 trains it (its HeadModule and Trainer under Lightning), where it differs from what one would expect:

    - Validation is looked at after every `look_every` whole epochs, by balanced accuracy, or, of two classes, by `two_classes_by`; the
      first best state counts; a run ends after `patience` looks without a better one, else after `steps` steps. A share, as 0.2, is that
      share of all looks, rounded up.
    - The schedules are stepped once an epoch. `cosine` has a period of `steps` epochs, of which a run sees few, so that the learning
      rate hardly falls; `constant` is torch's ConstantLR, a third of the learning rate in the first five epochs.
    - Two classes have one output (binary cross-entropy).

    `lr` is the learning rate at a batch of `lr_batch`, to which it is proportional; lr_batch null: at every batch. Run r is drawn
    from (seed, r): the first layer and the order of samples, the same for all encoders of one width. With several runs the scores
    that are kept are their mean probabilities; the metrics are those of each run, averaged. torch, float32, on `device`.
    """

    def __init__(
        self,
        *,
        optimiser: str,
        lr: float,
        lr_batch: int | None,
        momentum: float,
        weight_decay: float,
        schedule: str,
        batch: int,
        steps: int,
        look_every: int,
        patience: float,
        runs: int,
        seed: int,
        device: str,
        two_classes_by: str = "balanced_accuracy",  # of runs that were made when there was no choice
    ):
        if optimiser not in OPTIMISERS or schedule not in SCHEDULES:
            raise UserError(f"eva: optimiser={optimiser}, schedule={schedule}: allowed are {', '.join(OPTIMISERS)} and "
                            f"{', '.join(SCHEDULES)}.")  # fmt: skip
        if two_classes_by not in MEASURES:
            raise UserError(f"eva: two_classes_by={two_classes_by} is not one of {', '.join(MEASURES)}.")
        if min(lr, batch, steps, look_every, patience, runs) <= 0 or (patience > 1 and patience != int(patience)):
            raise UserError(
                f"eva: lr={lr}, batch={batch}, steps={steps}, look_every={look_every}, patience={patience}, runs={runs}: all must be "
                "above 0, and patience a share of the looks at validation, such as 0.2, or a whole number of them."
            )
        self.optimiser, self.schedule = optimiser, schedule
        self.lr = lr if lr_batch is None else lr * batch / lr_batch
        self.momentum, self.weight_decay = momentum, weight_decay
        self.batch, self.steps, self.patience, self.runs = batch, steps, patience, runs
        self.look_every, self.two_classes_by = look_every, two_classes_by
        self.seed = seed
        self.device = torch.device(
            "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
        )

    def run(self, features: FeatureSet) -> ProtocolResult:
        """Means over the runs; for each run the best validation figure, the epoch that had it and the metrics are in `arrays`."""
        heads, best_R, epoch_R = self._train(features)
        with torch.no_grad():
            scores = {
                name: probabilities(heads.of_all(self._on(split.features_ND))).cpu().numpy().astype(np.float64)
                for name, split in features.evaluated().items()
            }
        return scored_runs(features, scores, {"epoch": epoch_R, "runs_val_best": best_R})

    def measure(self, classes: int) -> str:
        """By which of MEASURES the state is chosen on validation."""
        return self.two_classes_by if classes == 2 else MEASURES[0]

    def looks(self, images: int) -> int:
        """After how many looks at validation without a better one a run ends, for so many train images."""
        if self.patience >= 1:
            return int(self.patience)
        return math.ceil(self.patience * self.steps / math.ceil(images / self.batch) / self.look_every)

    def _train(self, features: FeatureSet) -> tuple[LinearHeads, np.ndarray, np.ndarray]:
        """The heads in their best states, and for each run its best figure on validation and the epoch (from 1) that had it."""
        train_ND, val_ND = self._on(features.train.features_ND), self._on(features.val.features_ND)
        train_N, val_N = self._on(features.train.labels_N), self._on(features.val.labels_N)
        classes = len(features.classes)
        generators = [torch.Generator().manual_seed(self.seed * 1000 + run) for run in range(self.runs)]
        heads = LinearHeads(train_ND.shape[1], classes, generators).to(self.device)
        optimiser, schedule = self._optimiser(heads)
        epoch_steps, patience = math.ceil(len(train_ND) / self.batch), self.looks(len(train_ND))

        best = {name: value.detach().clone() for name, value in heads.named_parameters()}
        best_R = torch.full((self.runs,), -1.0, device=self.device)
        epoch_R = torch.zeros(self.runs, dtype=torch.long, device=self.device)
        for step, rows_RB in enumerate(self._batches(len(train_ND), generators), start=1):
            optimiser.zero_grad()
            inputs_RBD = train_ND.index_select(0, rows_RB.flatten()).unflatten(
                0, rows_RB.shape
            )  # faster than [rows_RB]
            loss_R(heads(inputs_RBD), train_N[rows_RB]).sum().backward()
            optimiser.step()
            if step % epoch_steps:
                continue
            schedule.step()
            epoch = step // epoch_steps
            if epoch % self.look_every:
                continue
            with torch.no_grad():
                logits_RON = heads.of_all(val_ND)
                plain = self.measure(classes) == "accuracy"
                accuracy_R = accuracies(logits_RON, val_N) if plain else balanced_accuracies(logits_RON, val_N, classes)
                better_R = (accuracy_R > best_R) & (
                    epoch - epoch_R <= patience * self.look_every
                )  # a run that has waited in vain is over
                best_R = torch.where(better_R, accuracy_R, best_R)
                epoch_R = torch.where(better_R, epoch, epoch_R)
                for name, value in heads.named_parameters():
                    best[name] = torch.where(better_R[:, None, None], value, best[name])
                if (epoch - epoch_R >= patience * self.look_every).all():
                    break
        if epoch_R.any():  # else there was no look: what the steps led to
            heads.load_state_dict(best)
        return heads, best_R.cpu().numpy(), epoch_R.cpu().numpy()

    def _batches(self, n: int, generators: list[torch.Generator]) -> Iterator[Tensor]:
        """(R, B) rows of the train samples, `steps` times: every run in its own order, the last batch of an epoch smaller."""
        done = 0
        while done < self.steps:
            order_RN = torch.stack([torch.randperm(n, generator=generator) for generator in generators]).to(self.device)
            for rows_RB in order_RN.split(self.batch, dim=1)[: self.steps - done]:
                yield rows_RB
                done += 1

    def _optimiser(self, heads: LinearHeads) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        if self.optimiser == "sgd":
            optimiser = torch.optim.SGD(
                heads.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
            )
        else:
            optimiser = torch.optim.AdamW(heads.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        if self.schedule == "cosine":
            return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=self.steps)
        return optimiser, torch.optim.lr_scheduler.ConstantLR(optimiser)

    def _on(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)
