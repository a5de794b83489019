"""slurm/index.sbatch and slurm/probe.sbatch on a real SLURM."""

import shutil

import pytest
from programs import ROOT, pathssl, train
from slurm_cluster import ended
from test_slurm import repository, sbatch  # noqa: F401  # a fixture

from pathssl.records import find_runs

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_an_array_looks_at_the_slides_and_the_next_command_has_the_index(slurm, repository, cohort, tmp_path):  # noqa: F811
    shutil.copytree(cohort / "slides", tmp_path / "slides")
    line = ["data=folder", f"data.path={tmp_path / 'slides'}", "data.foreground.cell_um=32"]
    environment = slurm | {"PYTHONPATH": str(ROOT)}
    job = sbatch(repository, environment, "--array=0-2", "slurm/index.sbatch", *line)
    for task in range(3):
        assert ended(f"{job}_{task}", slurm, repository) == "COMPLETED"
    logs = [path.read_text() for path in sorted(repository.glob("slurm-*.log"))]
    assert [
        f"part {k}/3: {slides}" in log for k, slides, log in zip((1, 2, 3), ("2", "1", "1"), logs, strict=True)
    ] == [True] * 3
    parts = {path.name.rpartition(".part")[2] for path in (tmp_path / "cache" / "index").iterdir()}
    assert parts == {f"{k}of3.jsonl" for k in (1, 2, 3)}
    done = pathssl("index", *line, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("4 slides")
    assert len(list((tmp_path / "cache" / "index").iterdir())) == 1


def test_an_array_probes_the_checkpoints_of_a_run(slurm, repository, small, tmp_path):  # noqa: F811
    assert train(*small, "train.device=cpu", cwd=tmp_path).returncode == 0
    (run,) = find_runs(tmp_path / "outputs" / "small")
    before = {path: path.read_bytes() for path in run.rglob("synthetic.json")}
    assert len(before) == 3
    shutil.rmtree(run / "probes")
    job = sbatch(repository, slurm | {"PYTHONPATH": str(ROOT)}, "--array=0-1", "slurm/probe.sbatch", str(run))
    for task in range(2):
        assert ended(f"{job}_{task}", slurm, repository) == "COMPLETED"
    assert {path: path.read_bytes() for path in run.rglob("synthetic.json")} == before
