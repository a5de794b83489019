"""Weights & Biases cannot be reached: a run loses the mirror, and nothing else."""

from programs import train

from pathssl.records import find_runs, read_metrics, read_status
from pathssl.training import tracking


def test_a_run_goes_on_and_its_log_says_so_once(small, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setattr(tracking, "_INIT_S", 2.0)
    done = train(*small, "logger=wandb", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "small")
    assert read_status(run)["state"] == "finished" and [row["step"] for row in read_metrics(run)] == [0, 2, 4, 6, 8]
    assert (run / "log.txt").read_text().count("Weights & Biases failed") == 1
    assert "Traceback" not in done.stdout + done.stderr
