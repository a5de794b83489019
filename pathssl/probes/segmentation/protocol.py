"""The protocol: heads trained on token maps by Dice loss, the best state of each on validation kept, and scored.

Axes: N images of a split, M crops of the task, S heads (seeds), B crops of a batch, K classes, D features; h and w patches of a crop,
P pixels of its side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import repeat
from torch import nn

from pathssl.errors import UserError
from pathssl.metrics import dice, miou
from pathssl.probes.segmentation.decoders import ConvDecoder, LinearDecoder, Upsampling, dice_loss
from pathssl.probes.segmentation.task import SegmentationTask
from pathssl.seeding import integer_seed

VALUES_AT_ONCE = 2**24  # logits of one pass when scoring: bounds its memory


@dataclass(frozen=True)
class SegmentationResult:
    """`results` {"<split>/dice" and "/miou": mean over heads}; `confusion` {split: (N, S, K, K)}; `chosen`, by validation: steps (S,)."""

    results: dict[str, float]
    confusion: dict[str, np.ndarray]
    chosen: dict[str, np.ndarray]


def linear_heads(**training) -> "SegmentationHeads":
    """Heads of one linear layer on each token; the arguments are those of SegmentationHeads."""
    return SegmentationHeads(LinearDecoder, **training)


def conv_heads(*, hidden: int, **training) -> "SegmentationHeads":
    """Heads of two convolutions, with `hidden` features between them; the other arguments are those of SegmentationHeads."""
    if hidden < 1:
        raise UserError(f"hidden={hidden}: give at least 1 feature between the two convolutions (eva: 64).")
    return SegmentationHeads(partial(ConvDecoder, hidden=hidden), **training)


class SegmentationHeads:
    """`runs` heads, of seeds 0, 1, ..., which decide initialisation and batches, trained together for `steps` batches of crops.

    Loss: Dice (see `dice_loss`) of the logits upsampled bilinearly to the mask. AdamW; the learning rate falls from `lr` to 0 as
    (1 - t / steps)^`lr_power`. `checks` times, evenly, Dice on validation is taken (`pathssl.metrics.dice`), and each head's best state
    is kept, the first at a draw. `standardise`: tokens are standardised with the mean and deviation of train. The same numbers come
    each time; another number of threads changes the order of sums, and so a few pixels.
    """

    def __init__(
        self,
        decoder: Callable[..., nn.Module],
        *,
        runs: int,
        steps: int,
        batch_size: int,
        lr: float,
        lr_power: float,
        weight_decay: float,
        checks: int,
        standardise: bool,
    ):
        if min(runs, steps, batch_size, checks) < 1 or checks > steps or lr <= 0 or min(lr_power, weight_decay) < 0:
            raise UserError(
                f"runs={runs}, steps={steps}, batch_size={batch_size}, checks={checks}, lr={lr}, lr_power={lr_power}, weight_decay="
                f"{weight_decay}: whole numbers from 1, no more checks than steps; lr above 0, the others 0 or more."
            )
        self.decoder = decoder
        self.seeds = range(runs)
        self.steps, self.batch_size, self.checks = steps, batch_size, checks
        self.lr, self.lr_power, self.weight_decay = lr, lr_power, weight_decay
        self.standardise = standardise

    def run(self, task: SegmentationTask, tokens_MhwD: np.ndarray, *, device: torch.device | str) -> SegmentationResult:
        """Dice and mIoU on val and, where there is one, test."""
        crops = _Crops(task, tokens_MhwD, device, self.standardise)
        heads = self.decoder(tokens_MhwD.shape[3], len(task.classes), self.seeds).to(device)
        with torch.enable_grad():
            confusion, steps_S = self._fit(heads, crops, task)
        for split in task.evaluated()[1:]:
            confusion[split] = crops.confusion(heads, split)
        results = {}
        for split, confusion_NSKK in confusion.items():
            for name, metric in (("dice", dice), ("miou", miou)):
                of_heads = [metric(confusion_NSKK[:, k], task.background) for k in range(len(self.seeds))]
                results[f"{split}/{name}"] = float(np.mean(of_heads))
        return SegmentationResult(results, confusion, {"steps": steps_S})

    def _fit(
        self, heads: nn.Module, crops: "_Crops", task: SegmentationTask
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Leaves in `heads` each one's best state; {"val": (N, S, K, K)} of these, and (S,) the steps they are of."""
        optimiser = torch.optim.AdamW(heads.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        order_SstepsB = self._order(task.crops("train"))
        checks = set(np.linspace(0, self.steps, self.checks + 1).round().astype(int)[1:].tolist())
        best = _Best(heads)
        for step in range(self.steps):
            for group in optimiser.param_groups:
                group["lr"] = self.lr * (1 - step / self.steps) ** self.lr_power
            tokens_SBhwD, labels_SBPP = crops.take(order_SstepsB[:, step])
            loss_S = dice_loss(crops.upsampled(heads(tokens_SBhwD)), labels_SBPP)
            optimiser.zero_grad()
            loss_S.sum().backward()  # no head sees another's loss
            optimiser.step()
            if step + 1 in checks:
                confusion_NSKK = crops.confusion(heads, "val")
                best.offer(heads, step + 1, confusion_NSKK, task.background)
        best.restore(heads)
        return {"val": best.confusion_NSKK}, best.steps_S

    def _order(self, train: np.ndarray) -> np.ndarray:
        """(S, steps, B) the train crops of each batch: every crop once before any comes again, in an order of each head's own."""
        size = min(self.batch_size, len(train))
        rounds = -(-self.steps * size // len(train))
        orders = []
        for seed in self.seeds:
            rng = np.random.default_rng(integer_seed(seed, "segmentation batches"))
            order = np.concatenate([rng.permutation(train) for _ in range(rounds)])
            orders.append(order[: self.steps * size].reshape(self.steps, size))
        return np.stack(orders)


class _Best:
    """The best state of each head so far, by Dice on validation."""

    def __init__(self, heads: nn.Module):
        self.states = [parameter.detach().clone() for parameter in heads.parameters()]
        self.dice_S = np.full(len(self.states[0]), -np.inf)
        self.steps_S = np.zeros(len(self.states[0]), int)
        self.confusion_NSKK: np.ndarray | None = None

    def offer(self, heads: nn.Module, step: int, confusion_NSKK: np.ndarray, background: int | None) -> None:
        dice_S = np.array([dice(confusion_NSKK[:, k], background) for k in range(len(self.dice_S))])
        better_S = dice_S > self.dice_S
        self.dice_S, self.steps_S = np.where(better_S, dice_S, self.dice_S), np.where(better_S, step, self.steps_S)
        before = confusion_NSKK if self.confusion_NSKK is None else self.confusion_NSKK
        self.confusion_NSKK = np.where(better_S[:, None, None], confusion_NSKK, before)
        for state, parameter in zip(self.states, heads.parameters(), strict=True):
            chosen = torch.from_numpy(np.flatnonzero(better_S)).to(state.device)
            state[chosen] = parameter.detach()[chosen]

    def restore(self, heads: nn.Module) -> None:
        with torch.no_grad():
            for state, parameter in zip(self.states, heads.parameters(), strict=True):
                parameter.copy_(state)


class _Crops:
    """Token maps and labels of a task's crops, handed out in batches on the device."""

    def __init__(self, task: SegmentationTask, tokens_MhwD: np.ndarray, device: torch.device | str, standardise: bool):
        self.task, self.device = task, device
        self.mean_D, self.scale_D = 0.0, 1.0
        if standardise:
            mean_D, scale_D = _moments(tokens_MhwD, task.crops("train"))
            self.mean_D, self.scale_D = torch.from_numpy(mean_D).to(device), torch.from_numpy(scale_D).to(device)
        self.tokens, self.labels = (_on(array, device) for array in (tokens_MhwD, task.labels_MPP))
        self.upsampled = Upsampling(task.image_px)

    def take(self, crops: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """(..., h, w, D) tokens and (..., P, P) int64 labels of the crops (...)."""
        index = torch.from_numpy(crops)
        tokens, labels = (source[index.to(source.device)].to(self.device) for source in (self.tokens, self.labels))
        return (tokens - self.mean_D) / self.scale_D, labels.long()

    @torch.no_grad()
    def confusion(self, heads: nn.Module, split: str) -> np.ndarray:
        """(N, S, K, K) pixels of each image of the split, by each head."""
        crops, classes = self.task.crops(split), len(self.task.classes)
        images, image_of_crop = np.unique(self.task.image_M[crops], return_inverse=True)
        runs = len(next(heads.parameters()))
        at_once = max(1, VALUES_AT_ONCE // (runs * classes * self.task.image_px**2))
        # One more true class than there is, for pixels that do not count.
        shape = len(images), runs, classes + 1, classes
        counts = torch.zeros(int(np.prod(shape)), dtype=torch.int64, device=self.device)
        for start in range(0, len(crops), at_once):
            chosen = slice(start, start + at_once)
            tokens_BhwD, labels_BPP = self.take(crops[chosen])
            tokens_SBhwD = repeat(tokens_BhwD, "b h w d -> s b h w d", s=runs)
            predicted_SBPP = self.upsampled(heads(tokens_SBhwD)).argmax(dim=2)
            image_B = torch.from_numpy(image_of_crop[chosen]).to(self.device)
            head_S = torch.arange(runs, device=self.device)
            place_SB = image_B * runs + head_S[:, None]
            true_BPP = labels_BPP.clamp(max=classes)
            place_SBPP = (place_SB[:, :, None, None] * (classes + 1) + true_BPP) * classes + predicted_SBPP
            counts += torch.bincount(place_SBPP.flatten(), minlength=len(counts))
        return counts.cpu().numpy().reshape(shape)[:, :, :classes]


def _on(array: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """The array on the device, unless it lies on disk because it is too large for memory."""
    tensor = torch.from_numpy(array)
    return tensor if isinstance(array, np.memmap) else tensor.to(device)


def _moments(tokens_MhwD: np.ndarray, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D,) float32 mean and deviation over the tokens of `crops`, a few at a time; a constant feature has deviation 1."""
    total_D, square_D, count = 0.0, 0.0, 0
    # about a point nearby, so that little is lost in the difference of squares
    origin_D = tokens_MhwD[crops[0]].reshape(-1, tokens_MhwD.shape[3]).mean(axis=0, dtype=np.float64)
    for start in range(0, len(crops), 64):
        rows_ND = tokens_MhwD[crops[start : start + 64]].reshape(-1, tokens_MhwD.shape[3]) - origin_D
        total_D, square_D, count = (
            total_D + rows_ND.sum(axis=0),
            square_D + (rows_ND**2).sum(axis=0),
            count + len(rows_ND),
        )
    mean_D = total_D / count
    deviation_D = np.sqrt(np.maximum(square_D / count - mean_D**2, 0))
    constant_D = deviation_D <= 1e-6 * np.abs(mean_D + origin_D)
    return (mean_D + origin_D).astype(np.float32), np.where(constant_D, 1, deviation_D).astype(np.float32)
