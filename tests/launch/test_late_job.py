"""Of the jobs that probe a run's checkpoints one is enough."""

import pytest
import yaml
from test_status import a_run, slurm, the_look  # noqa: F401  # a fixture

from pathssl.files import locked
from pathssl.launch import late_job


@pytest.mark.parametrize(
    ("state", "ending", "sends"),
    [
        ("PENDING", None, False),
        ("RUNNING", None, False),  # it looks once more before it ends
        ("RUNNING", "8", False),  # what another one said
        ("RUNNING", "9", True),  # it has looked for the last time
        ("COMPLETING", None, True),
        ("TIMEOUT", None, True),
    ],
)
def test_a_job_is_sent_where_none_will_look(state, ending, sends, slurm, tmp_path, monkeypatch):  # noqa: F811
    slurm(queue=f"9|9|N/A|{state}|None\n")
    run = a_run(tmp_path / "arm" / "seed0", "running", job_id="7", submitted="7")
    (run / "probe_job.txt").write_text("9\n")
    if ending:
        (run / ".probes.ending").write_text(f"{ending}\n")
    monkeypatch.setattr(late_job, "_sent", lambda *_: "10")
    assert late_job.send_probe(run) == ("10" if sends else None)
    assert (run / "probe_job.txt").read_text() == ("10\n" if sends else "9\n")


def test_a_run_whose_probes_end_with_its_job_says_so_in_status(slurm, tmp_path):  # noqa: F811
    slurm(queue="7|7|N/A|RUNNING|None\n")
    for submitted, says in ((None, True), ("7", False)):
        run = a_run(tmp_path / f"arm{submitted}" / "seed0", "running", job_id="7", submitted=submitted)
        config = yaml.safe_load((run / "config.yaml").read_text()) | {"probe": {"where": "job"}}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        with locked(run / ".lock"):
            look = the_look(run)
        assert look.state == "running" and ("probe RUN --late" in look.why) == says
