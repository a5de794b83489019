"""The numbers of a run, as pure functions of the step."""

from dataclasses import dataclass

from pathssl.schedules import cosine, steps_every, warmup_cosine


@dataclass(frozen=True)
class Recipe:
    """Durations `warmup` and `freeze_last_layer`, and the distances of checkpoints and log lines, are fractions of training."""

    total_steps: int
    batch_size: int
    lr: float
    final_lr: float
    warmup: float
    weight_decay: float
    final_weight_decay: float
    momentum: float
    final_momentum: float
    clip_grad: float | None
    clip_rule: str
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
        return steps_every(fraction, self.total_steps)
