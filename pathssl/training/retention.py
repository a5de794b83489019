"""Which checkpoints' teachers stay."""

from collections.abc import Collection
from pathlib import Path

from pathssl.errors import UserError
from pathssl.records import read_rows


class Retention:
    """Those of every `every`-th of the `scheduled` checkpoints, and of the one with the highest `best`, a key of metrics.jsonl or None.

    A probe's key on a validation split is meant: what is chosen on the test split flatters the test split.
    """

    def __init__(self, run: Path, scheduled: Collection[int], *, every: int, best: str | None):
        self.run, self.best = Path(run), best
        self.scheduled = sorted(scheduled)
        self.regular = set(self.scheduled[::every])

    def __call__(self, steps: list[int]) -> list[int]:
        """Those of `steps` that stay."""
        kept = [step for step in steps if step in self.regular]
        if self.best is None:
            return kept
        rows = [row for row in read_rows(self.run) if row["step"] in self.scheduled]
        scores = {row["step"]: row[self.best] for row in rows if row.get(self.best) is not None}
        if rows and not scores:
            known = sorted(key for key in rows[-1] if key.startswith(("probe/", "unsupervised/")))
            raise UserError(f"checkpoint.keep_best={self.best} is none of this run's metrics: {', '.join(known)}.")
        # Of equals, the first.
        return kept + [
            step for step in steps if step == max(scores, key=lambda step: (scores[step], -step), default=None)
        ]
