"""A run that is killed, stopped or moved to other processes goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pathssl.cli import main
from pathssl.identity import arm_name, run_folder
from pathssl.launch.differences import compare, compare_losses, same_patches
from pathssl.launch.lives import Life, Moment
from pathssl.launch.local import command
from pathssl.launch.verify_resume import TOLERANCE
from pathssl.records import cut_metrics, read_metrics, read_status

# Stochastic depth draws inside the model, in all blocks but the first.
DEEP = ["model.args.depth=2", "model.drop_path=0.2"]
DINO = [*DEEP, "objective.centring=centre"]
DINOV2 = [*DEEP, "objective=dinov2", "objective.spread.group=4"]


def verified(capsys, *arguments) -> dict:
    """What `verify-resume` says, which left nothing behind."""
    code = main(["verify-resume", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert code == 0 and answer["equal"], answer["text"] + said.err
    assert not list(Path(tempfile.gettempdir()).glob("pathssl-verify-resume-*"))
    return answer


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_resume_to_the_bit_with_any_number_of_workers_wherever_it_is_killed(small, capsys):
    answer = verified(
        capsys, *small, *DINOV2, "seed=6", "--kills", 2, "--workers", "0,2"
    )  # DINO is killed below, many times
    assert len(answer["kills"]) == 4 and {kill["signal"] for kill in answer["kills"]} == {"SIGKILL", "SIGTERM"}
    assert {item["different"] for item in answer["compared"]} == {0} and all(
        item["count"] for item in answer["compared"]
    )
    assert answer["verdict"].startswith("Bit for bit equal: after 4 kills")
    assert answer["verdict"] in answer["text"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_processes_resume_to_the_bit_and_learn_what_one_does(small, capsys):
    # Three: from there on the order in which DDP sums matters.
    more = [*DINOV2, "batch.size=12"]
    answer = verified(capsys, *small, *more, "--steps", 8, "--kills", 1, "--workers", 0, "--processes", 3)
    assert [kill["run"] for kill in answer["kills"]] == ["loader.workers=0", "3 processes, killed"]
    assert {item["different"] for item in answer["compared"]} == {0}
    assert answer["greatest_loss_ratio"] < TOLERANCE["fp32"]


@pytest.mark.slow
def test_a_run_that_is_stopped_between_two_lines_writes_the_same_lines(small, tmp_path):
    line = [*small, "train.patches=240", "train.log_every=0.5", "train.checkpoint_every=1.0"]

    def life(place):
        config = {"output_dir": tmp_path / place, "study": "small", "seed": 0}
        return Life(command([*line, f"output_dir={tmp_path / place}"], 1), run_folder(config, arm_name(line)), place)

    with life("unbroken") as unbroken:
        assert unbroken.end() == 0, unbroken.words()
    with life("stopped") as first:
        stop = first.kill(signal.SIGTERM, Moment(rows=2, delay_s=0.1, save_s=None))
        assert stop.exit_code == 75 and stop.step == 15 < stop.saved < 30, first.words()
    with life("stopped") as second:
        assert second.end() == 0, second.words()
    assert [row["step"] for row in read_metrics(second.run)] == [0, 15, 30]
    assert [item.first for item in compare(second.run, unbroken.run) if item.different] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_moves_from_one_process_to_two_and_back(small, tmp_path):
    line = [*small, *DINOV2, "train.patches=96", "train.log_every=0.08", "train.checkpoint_every=0.25"]

    def life(place, processes):
        # One process takes in two passes what two take in one: the micro-batches are the same.
        more = [f"output_dir={tmp_path / place}", "parallel.mode=fsdp", f"parallel.accumulate={2 // processes}"]
        config = {"output_dir": tmp_path / place, "study": "small", "seed": 0}
        return Life(command([*line, *more], processes), run_folder(config, arm_name(line)), place)

    with life("unbroken", 1) as unbroken:
        assert unbroken.end() == 0, unbroken.words()
    # Begun by one process and killed, taken on by two and stopped, finished by one.
    with life("moved", 1) as first:
        kill = first.kill(signal.SIGKILL, Moment(rows=5, delay_s=0.0, save_s=None))
        assert kill.sent and kill.saved >= 3, first.words()
        assert read_status(first.run)["state"] == "running"  # it died without a word
        cut_metrics(first.run, kill.saved - 1)  # as if just after the save, before its probes
    with life("moved", 2) as second:
        stop = second.kill(signal.SIGTERM, Moment(rows=8, delay_s=0.0, save_s=None))
        assert stop.sent and read_status(second.run)["state"] == "preempted", second.words()
        assert kill.saved < stop.saved < 12
        environment = json.loads((second.run / "environment.json").read_text())
        assert environment["processes"] == 2
    with life("moved", 1) as third:
        assert third.end() == 0, third.words()
    assert [row["step"] for row in read_metrics(third.run)] == list(range(13))
    assert same_patches(third.run, unbroken.run).different == 0
    losses, ratio = compare_losses(third.run, unbroken.run, TOLERANCE["fp32"])
    assert losses.count == 12 and losses.different == 0, f"{losses.first} ({ratio})"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_survives_many_kills_and_no_checkpoint_is_ever_half(small, tmp_path):
    kills = int(os.environ.get("PATHSSL_KILLS", "24"))  # a hundred, now and then: they take minutes
    program = Path(__file__).with_name("many_kills.py")
    quick = ["probe=[knn]", "train.patches=96", "train.checkpoint_every=0.17"]
    line = [sys.executable, str(program), str(tmp_path), str(kills), *small, *DINO, *quick]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout)
    assert account["wrong"] == []
    assert len(account["kills"]) >= kills and account["runs"] >= kills // 10
    assert sum(kill["in_save"] for kill in account["kills"]) >= kills // 10
    assert len({kill["saved"] for kill in account["kills"]}) >= 5  # all over the run
