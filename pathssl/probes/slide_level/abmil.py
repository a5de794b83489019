"""Attention over the patches of a slide, in several runs that are trained as one batch of models.

Axes: R runs, B slides of a batch, N slides, M the most patches of a slide, D features, L hidden units, K classes.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pathssl.errors import UserError
from pathssl.probes.feature_set import FeatureSet, ProtocolResult, Split, scored_runs
from pathssl.seeding import integer_seed


class GatedAttention:
    """A slide's class from the weighted mean of its patches, whose weights are learned with it.

    Ilse et al., "Attention-based deep multiple instance learning", ICML 2018, equations 8 and 9, on features that are standardised with
    the mean and deviation of all patches of train; then one linear layer. AdamW on the mean cross-entropy of `batch` slides. After each
    epoch the validation loss is looked at: the state with the smallest counts, and a run ends after `patience` epochs without a
    smaller one. The metrics are those of each of `runs`, averaged; the scores that are kept are their mean probabilities. Run r is drawn
    from (seed, r): weights and order of slides, the same for all encoders of one width. torch, float32. Tasks of images are passed over.
    """

    only_slides = True

    def __init__(
        self,
        *,
        hidden: int,
        lr: float,
        weight_decay: float,
        batch: int,
        epochs: int,
        patience: int,
        runs: int,
        seed: int,
        device: str,
    ):
        if min(hidden, lr, batch, epochs, patience, runs) <= 0 or weight_decay < 0 or seed < 0:
            raise UserError(
                f"slide_abmil: hidden={hidden}, lr={lr}, batch={batch}, epochs={epochs}, patience={patience}, runs={runs} must be above "
                f"0, weight_decay={weight_decay} and seed={seed} at least 0."
            )
        if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
            raise UserError(f"slide_abmil: device={device}: give auto, cpu or, where torch sees a GPU, cuda.")
        self.hidden, self.lr, self.weight_decay, self.batch = hidden, lr, weight_decay, batch
        self.epochs, self.patience, self.runs, self.seed = epochs, patience, runs, seed
        self.device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"

    def run(self, features: FeatureSet) -> ProtocolResult:
        """Means over the runs; which epoch each run was best at, and what it reached by itself, are among the arrays."""
        patches_ND = np.concatenate(features.train.bags)
        mean_D, deviation_D = patches_ND.mean(axis=0, dtype=np.float64), patches_ND.std(axis=0, dtype=np.float64)
        deviation_D = np.where(deviation_D > 0, deviation_D, 1)
        splits = {"train": features.train} | features.evaluated()
        bags = {name: _standardised(split, mean_D, deviation_D) for name, split in splits.items()}
        model, epoch_R = self._train(features, bags["train"], bags["val"])
        scores = {name: self._probabilities(model, bags[name]) for name in features.evaluated()}
        return scored_runs(features, {name: np.asarray(of) for name, of in scores.items()}, {"epoch": epoch_R})

    def _train(self, features: FeatureSet, train: list[Tensor], val: list[Tensor]) -> tuple["Attention", np.ndarray]:
        """The runs in their best states, and the epoch (from 1) that each was best at."""
        labels_N = torch.from_numpy(features.train.labels_N).to(self.device)
        seeds = [integer_seed(self.seed, "slide_abmil", run) for run in range(self.runs)]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        model = Attention(train[0].shape[1], self.hidden, len(features.classes), generators).to(self.device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        best = {name: value.detach().clone() for name, value in model.named_parameters()}
        loss_R, epoch_R = (
            torch.full((self.runs,), torch.inf, dtype=torch.float64),
            torch.zeros(self.runs, dtype=torch.long),
        )
        for epoch in range(1, self.epochs + 1):
            order_RN = torch.stack([torch.randperm(len(train), generator=generator) for generator in generators])
            for rows_RB in order_RN.split(self.batch, dim=1):
                optimiser.zero_grad()
                losses_R = _losses(model(*_padded(train, rows_RB, self.device)), labels_N[rows_RB.to(self.device)])
                losses_R.sum().backward()  # what runs share is nothing: each gets its own gradient
                optimiser.step()
            own_RN = self._probabilities(model, val)[:, np.arange(len(val)), features.val.labels_N]
            reached_R = torch.from_numpy(-np.log(np.maximum(own_RN, 1e-30)).mean(axis=1))
            better_R = (reached_R < loss_R) & (
                epoch - epoch_R <= self.patience
            )  # a run that has waited in vain is over
            loss_R, epoch_R = torch.where(better_R, reached_R, loss_R), torch.where(better_R, epoch, epoch_R)
            for name, value in model.named_parameters():
                best[name] = torch.where(better_R.to(self.device)[:, None, None], value.detach(), best[name])
            if (epoch - epoch_R >= self.patience).all():
                break
        model.load_state_dict(best)
        return model, epoch_R.numpy()

    @torch.no_grad()
    def _probabilities(self, model: "Attention", bags: list[Tensor]) -> np.ndarray:
        """(R, N, K) float64."""
        rows = torch.arange(len(bags)).expand(self.runs, -1).split(self.batch, dim=1)
        parts = [model(*_padded(bags, rows_RB, self.device)).double().softmax(dim=2).cpu() for rows_RB in rows]
        return torch.cat(parts, dim=1).numpy()


class Attention(nn.Module):
    """R models that share nothing, each drawn from its own generator as torch.nn.Linear draws."""

    def __init__(self, dim: int, hidden: int, classes: int, generators: list[torch.Generator]):
        super().__init__()

        def layer(inputs: int, outputs: int) -> nn.Parameter:
            """(R, inputs + 1, outputs): the last row is the bias."""
            shape, bound = (inputs + 1, outputs), inputs**-0.5
            return nn.Parameter(
                torch.stack([torch.empty(shape).uniform_(-bound, bound, generator=g) for g in generators])
            )

        self.tanh, self.gate, self.attention = layer(dim, hidden), layer(dim, hidden), layer(hidden, 1)
        self.classifier = layer(dim, classes)

    def forward(self, bags_RBMD: Tensor, there_RBM: Tensor) -> Tensor:
        """(R, B, K) logits; `there_RBM` is False where a bag has no patch."""
        hidden_RBML = _through(self.tanh, bags_RBMD).tanh() * _through(self.gate, bags_RBMD).sigmoid()
        score_RBM = _through(self.attention, hidden_RBML).squeeze(3).masked_fill(~there_RBM, -torch.inf)
        mean_RBD = torch.einsum("rbm,rbmd->rbd", score_RBM.softmax(dim=2), bags_RBMD)
        return _through(self.classifier, mean_RBD)


def _through(layer: Tensor, inputs: Tensor) -> Tensor:
    """(R, ..., outputs) of inputs (R, ..., inputs)."""
    flat = torch.baddbmm(layer[:, -1:], inputs.flatten(1, -2), layer[:, :-1])
    return flat.unflatten(1, inputs.shape[1:-1])


def _losses(logits_RBK: Tensor, labels_RB: Tensor) -> Tensor:
    """(R,) mean cross-entropies."""
    return F.cross_entropy(logits_RBK.transpose(1, 2), labels_RB, reduction="none").mean(dim=1)


def _standardised(split: Split, mean_D: np.ndarray, deviation_D: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(((bag_MD - mean_D) / deviation_D).astype(np.float32)) for bag_MD in split.bags]


def _padded(bags: list[Tensor], rows_RB: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """(R, B, M, D) the bags of these numbers, filled up with zeros, and (R, B, M) where there is a patch."""
    chosen, where_RB = rows_RB.unique(return_inverse=True)
    sizes_C = torch.tensor([len(bags[row]) for row in chosen])
    padded_CMD = nn.utils.rnn.pad_sequence([bags[row] for row in chosen], batch_first=True).to(device)
    there_CM = (torch.arange(padded_CMD.shape[1]) < sizes_C[:, None]).to(device)
    where_RB = where_RB.to(device)
    return padded_CMD[where_RB], there_CM[where_RB]
