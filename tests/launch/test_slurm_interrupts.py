"""Every way in which SLURM, or the world, ends a job before its run: the run goes on, to the bits of one that nobody disturbed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from programs import train
from slurm_cluster import CLUSTER, closed, ran, state, until

from pathssl.launch.differences import compare
from pathssl.launch.status import look_at
from pathssl.records import find_runs, read_metrics, read_status, read_submission

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

SLURM = ["hydra/launcher=slurm_1gpu", "hydra.launcher.mem_gb=1", "hydra.launcher.cpus_per_task=1"]
ON_NODE = "+hydra.launcher.sbatch.nodelist=node{}"
_USR2 = 1 << (signal.SIGUSR2 - 1)


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in tree(int(child)))]


class Case:
    """A study of one run, sent to SLURM with these options, and how it is disturbed. `disturb` yields what it waits for."""

    def __init__(
        self, name: str, root: Path, slurm: dict[str, str], disturb: Callable[["Case"], Iterator], *options: str
    ):
        self.name, self.root, self.slurm, self.disturb, self.options = name, root, slurm, disturb, options

    def send(self, line: list[str]) -> None:
        self.line = [*line, f"study={self.name}", *SLURM, *self.options]
        done = train(*self.line, "-m", cwd=self.root)
        assert done.returncode == 0, done.stdout + done.stderr
        (self.run,) = find_runs(self.root / "outputs" / self.name)
        assert read_status(self.run)["job_id"] == self.job

    @property
    def job(self) -> str:
        return read_submission(self.run)["job_id"]

    @property
    def status(self) -> dict:
        return read_status(self.run)

    def begun(self) -> bool:
        return self.status["state"] == "running" and self.status["step"] > 0

    def pid(self) -> int:
        """Of the run's own process on the node."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().decode().split("\0")
            except (OSError, UnicodeDecodeError):
                continue
            if f"study={self.name}" in words and any(word.endswith("train.py") for word in words):
                return int(path.name)
        raise AssertionError(f"no process of {self.name}")


def asked_by_signal(case: Case) -> Iterator:
    yield case.begun
    ran("scancel", "--signal=USR2", case.job, env=case.slurm)


def out_of_time(case: Case) -> Iterator:
    """The run is stopped as by a slow disk, until SLURM's warning of the real limit has come: half a minute after its start or later."""
    yield case.begun
    pid = case.pid()
    os.kill(pid, signal.SIGSTOP)
    yield lambda: case.status["timeouts"] or warned(pid)
    with suppress(ProcessLookupError):  # SLURM woke it, so that it heard
        os.kill(pid, signal.SIGCONT)
    yield lambda: case.status["timeouts"]


def warned(pid: int) -> bool:
    """Whether the signal waits for the process to wake."""
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return bool(int(told.split("ShdPnd:")[1].split()[0], 16) & _USR2)


def requeued(case: Case) -> Iterator:
    yield case.begun
    ran("scontrol", "requeue", case.job, env=case.slurm)


def preempted(case: Case) -> Iterator:
    yield case.begun
    line = [
        "sbatch",
        "--parsable",
        "-p",
        "gpu",
        "-w",
        "node2",
        "--gpus-per-node=8",
        "--output=/dev/null",
        "--wrap=sleep 1",
    ]
    job = ran(*line, env=case.slurm).strip()
    yield lambda: state(job, case.slurm) == "COMPLETED"


def killed(case: Case) -> Iterator:
    """By hand, or for its memory."""
    yield case.begun
    os.kill(case.pid(), signal.SIGKILL)


def without_a_node(case: Case) -> Iterator:
    yield case.begun
    folder = Path(case.slurm["SLURM_TEST_DIR"])
    os.kill(int((folder / "pids" / "node1").read_text()), signal.SIGKILL)
    for pid in reversed(tree(case.pid())):  # the node is gone with all that ran there
        os.kill(pid, signal.SIGKILL)
    ran("scontrol", "update", "NodeName=node1", "State=DOWN", "Reason=gone", env=case.slurm)
    yield lambda: look_at([case.run])[0].state == "queued"
    back = time.monotonic() + 10  # before its leftovers are gone a node takes no job again
    yield lambda: time.monotonic() > back
    ran(CLUSTER / "restart-node.sh", "node1", env=case.slurm)
    ran("scontrol", "update", "NodeName=node1", "State=RESUME", env=case.slurm)


def advance(plays: dict[Case, tuple[Iterator, Callable]]) -> None:
    """Each case whose moment has come plays on; those that are over leave."""
    for case, (play, true) in list(plays.items()):
        if true():
            try:
                plays[case] = play, next(play)
            except StopIteration:
                del plays[case]


def test_whatever_ends_a_job_its_run_goes_on_to_the_same_bits(slurm, small, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    line = [
        *(o for o in small if not o.startswith(("study=", "output_dir="))),
        "train.device=cpu",
        "train.patches=1600",
    ]
    line += ["train.log_every=0.005", "train.checkpoint_every=0.2"]
    assert train(*line, "study=unbroken", cwd=tmp_path).returncode == 0
    (unbroken,) = find_runs(tmp_path / "outputs" / "unbroken")
    here = (ON_NODE.format(2), "hydra.launcher.gpus_per_node=0")
    low = (ON_NODE.format(2), "hydra.launcher.gpus_per_node=1", "hydra.launcher.partition=low")
    short = (*here, "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=1")
    cases = [
        Case("limit", tmp_path, slurm, out_of_time, *short),
        Case("node", tmp_path, slurm, without_a_node, ON_NODE.format(1)),
        Case("preempted", tmp_path, slurm, preempted, *low),
        Case("signal", tmp_path, slurm, asked_by_signal, *here),
        Case("requeue", tmp_path, slurm, requeued, *here),
        Case("kill", tmp_path, slurm, killed, *here),
    ]
    first, *others = cases
    first.send(line)
    until(first.begun, 120, lambda: first.status)  # before its time is over, and the others take the cores
    plays = {case: (play := case.disturb(case), next(play)) for case in cases}
    advance(only := {first: plays[first]})
    plays |= only
    with closed(slurm):  # that none of them is over before all are there
        for case in others:
            case.send(line)
    until(lambda: advance(plays) or not plays, 200, lambda: [(case.name, case.status) for case in plays])
    until(
        lambda: all(case.status["state"] == "finished" for case in cases),
        200,
        lambda: [(case.name, case.status) for case in cases],
    )
    for case in cases:
        starts, timeouts = case.status["starts"], case.status["timeouts"]
        # On a busy machine a minute's limit is reached more than once, and a job may begin again before the one that preempts it.
        assert starts >= 2 and look_at([case.run])[0].requeues == starts - 1, (case.name, case.status)
        # A warning that comes before the run listens ends it too, and is none that it could count.
        assert (1 <= timeouts < starts) if case is first else timeouts == 0, (case.name, case.status)
        assert [found.first for found in compare(case.run, unbroken) if found.different] == [], case.name
        steps = [row["step"] for row in read_metrics(case.run)]
        assert steps == sorted(set(steps)) and steps[-1] == 200, case.name
        assert not list(case.run.glob("checkpoints/.*.tmp")), case.name
