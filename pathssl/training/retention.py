"""Which checkpoints' teachers stay."""

from collections.abc import Callable, Collection
from pathlib import Path

from pathssl.errors import UserError
from pathssl.metric_keys import descriptive, higher_is_better
from pathssl.probe_records import read_rows


class Retention:
    """Those of every `every`-th of the `scheduled` checkpoints, and of the one that is best by `best`, a key of metrics.jsonl or None.

    is_probed(step): whether a checkpoint has been probed; those that have not stay. None: all have.
    A probe's key on a validation split is meant: what is chosen on the test split flatters the test split.
    """

    def __init__(
        self,
        run: Path,
        scheduled: Collection[int],
        *,
        every: int,
        best: str | None,
        is_probed: Callable[[int], bool] | None = None,
    ):
        if best is not None and descriptive(best):
            raise UserError(
                f"checkpoint.keep_best={best} describes, and neither more nor less of it is better. Name a metric of a probe."
            )
        self.run, self.best, self.is_probed = Path(run), best, is_probed
        self.scheduled = sorted(scheduled)
        self.regular = set(self.scheduled[::every])

    def __call__(self, steps: list[int]) -> list[int]:
        """Those of `steps` that stay."""
        kept = [step for step in steps if step in self.regular or not self._probed(step)]
        if self.best is None:
            return kept
        rows = [row for row in read_rows(self.run) if row["step"] in self.scheduled]
        scores = {row["step"]: row[self.best] for row in rows if row.get(self.best) is not None}
        if rows and not scores and all(self._probed(row["step"]) for row in rows):
            known = sorted(key for key in rows[-1] if key.startswith(("probe/", "unsupervised/")))
            raise UserError(f"checkpoint.keep_best={self.best} is none of this run's metrics: {', '.join(known)}.")
        sign = 1 if higher_is_better(self.best) else -1
        trained = [step for step in scores if step > 0]  # step 0 stays anyway, and is no outcome of training
        best = max(trained, key=lambda step: (sign * scores[step], -step), default=None)  # of equals, the first
        return kept + [step for step in steps if step == best and step not in kept]

    def _probed(self, step: int) -> bool:
        return self.is_probed is None or step not in self.scheduled or self.is_probed(step)
