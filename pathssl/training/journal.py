"""What the first process of a run writes down: a line at every logged step, and what probes say of the teacher."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pathssl.distributed import from_main, is_main
from pathssl.metric_keys import metric_key
from pathssl.probe_records import token_picture_of, write_probe
from pathssl.probes.evaluate import Probes
from pathssl.records import read_json, read_metrics
from pathssl.training.sentinels import Collapsed, Sentinels
from pathssl.training.tracking import Tracker

log = logging.getLogger(__name__)
_SLOW_DATA = 0.2  # of the time


class Journal:
    """Writes into `run`; in all processes but the first, which alone has `probes` and `tracker`, it only waits.

    `report(step)` is called at every line, to keep the run's status. late: another process probes, and its results are told to the
    tracker and the sentinels as they come.
    """

    def __init__(
        self,
        run: Path,
        *,
        total_steps: int,
        device: torch.device,
        probes: Probes | None,
        tracker: Tracker | None,
        sentinels: Sentinels,
        report: Callable[[int], None],
        late: bool = False,
    ):
        self.run, self.total_steps, self.device = run, total_steps, device
        self.probes, self.tracker, self.sentinels, self.report = probes, tracker, sentinels, report
        self.late = late
        self.said_slow, self.lines = False, 0
        self.seen: set[Path] = set()  # late results that the sentinels know

    def opened(self, step: int) -> None:
        """Training goes on from `step`."""
        if is_main():
            self.report(step)
            self.sentinels.look(
                read_metrics(self.run)[0], 0.0
            )  # the untrained features, which later ones are held against

    def stopped(self, step: int) -> None:
        """Training was asked to stop, and stops after `step`."""
        if is_main():
            self.report(step)

    def line(self, row: dict[str, float], encoder: nn.Module | None) -> None:
        """Writes the line of a step, with what the probes say of `encoder`, the teacher's, where there is one (in the first process).

        Raises Collapsed in all processes where the run is to stop for that.
        """
        collapsed = None
        if is_main():
            row = row | (self._probed(row, encoder) if encoder is not None else {})
            self.tracker.log(row)
            if self.late:
                self.tracker.log_late()
            self._say(row)
            self.report(int(row["step"]))
            try:
                self.sentinels.look(row, self._progress(row["step"]))
                if self.late:
                    self._look_at_late_ones()
            except Collapsed as error:
                collapsed = str(error)
        if collapsed := from_main(collapsed):
            raise Collapsed(collapsed)

    def _probed(self, row: dict[str, float], encoder: nn.Module) -> dict[str, float]:
        """What the probes say of `encoder`, stored for the step of `row`."""
        step, seen, start_s = int(row["step"]), int(row["patches_seen"]), time.perf_counter()
        outcome = self.probes.run(encoder, device=self.device, with_nulls=step == 0)
        for task, result in outcome.tasks.items():
            write_probe(
                self.run,
                step=step,
                patches_seen=seen,
                task=task,
                results=result.results,
                predictions=result.predictions,
                made_with=result.made_with,
            )
        self.probes.draw(token_picture_of(self.run), encoder, device=self.device)
        for key, value in outcome.metrics.items():
            if key.endswith(("test/balanced_accuracy", "test/dice")) or key.startswith("unsupervised/"):
                log.info("step %6d  %s %.3f", step, key, value)
        return outcome.metrics | {"probe_time_s": time.perf_counter() - start_s}

    def _look_at_late_ones(self) -> None:
        """Shows the sentinels the label-free results that have come since the last line, by step; after a resume, all."""
        for path in sorted({*self.run.glob("probes/step_*/unsupervised.json")} - self.seen):
            self.seen.add(path)
            probe = read_json(path)
            row = {metric_key("unsupervised", key): value for key, value in probe["results"].items()}
            self.sentinels.look({"step": probe["step"]} | row, self._progress(probe["step"]))

    def _progress(self, step: float) -> float:
        return step / self.total_steps if self.total_steps else 0.0  # of a run that only probes what it begins with

    def _say(self, row: dict[str, float]) -> None:
        if "train/loss" not in row:  # before the first step
            return
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
            self.total_steps,
            row["train/loss"],
            row["train/patches_per_s"],
            100 * row["train/data_wait"],
        )
