"""What the first process of a run writes down, and whom it shows what another process has probed."""

import pytest
import torch

from pathssl.probe_records import write_probe
from pathssl.records import append_metrics
from pathssl.training.journal import Journal
from pathssl.training.sentinels import Collapsed, Sentinels
from pathssl.training.tracking import Tracker


@pytest.fixture
def late_journal(tmp_path):
    """late_journal() is the journal of a run of 10 steps that another process probes, opened at step 0, which is to stop on collapse."""

    def make():
        journal = Journal(
            tmp_path,
            total_steps=10,
            device=torch.device("cpu"),
            probes=None,
            tracker=Tracker(tmp_path, wandb=None, config={}, choices={}, name="", group=""),
            sentinels=Sentinels({"": 64}, stop_on_collapse=True, stall_s=60.0),
            report=lambda _: None,
            late=True,
        )
        journal.opened(0)
        return journal

    append_metrics(tmp_path, {"step": 0, "patches_seen": 0})
    return make


def a_line(step: int) -> dict[str, float]:
    means = {"train/loss": 4.0, "train/patches_per_s": 16.0, "train/data_wait": 0.0}
    return {"step": step, "patches_seen": 8 * step} | means


def probed(run, step: int, rankme: float) -> None:
    write_probe(run, step=step, patches_seen=8 * step, task="unsupervised", results={"rankme": rankme})


def test_a_collapse_that_another_process_found_stops_the_run_at_the_next_line_and_when_it_is_taken_up(
    tmp_path, late_journal
):
    journal = late_journal()
    probed(tmp_path, 0, 12.0)
    journal.line(a_line(3), None)
    probed(tmp_path, 2, 6.0)
    journal.line(a_line(5), None)
    probed(tmp_path, 4, 1.1)
    with pytest.raises(Collapsed, match=r"Collapse at step 4: .* RankMe is 1\.10, and was 12\.00 untrained"):
        journal.line(a_line(7), None)
    with pytest.raises(Collapsed, match="Collapse at step 4"):
        late_journal().line(a_line(8), None)
