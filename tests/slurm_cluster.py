"""One real SLURM for all tests marked `slurm`: what starts it, and what these tests ask of it, each call with a limit."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "slurm" / "testcluster"
_PATIENCE = 3  # times what a step takes on an idle machine: other tests run beside these
_GOING = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED")


def ran(*command: str | Path, env: dict[str, str], timeout: int = 60, **more) -> str:
    """What the command said; it must end well."""
    done = subprocess.run(
        list(map(str, command)), env=env, capture_output=True, text=True, timeout=timeout, check=False, **more
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def started(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a client of a cluster of two virtual nodes, where a requeued job need not wait for two minutes."""
    if os.geteuid() != 0 or not (shutil.which("slurmctld") or shutil.which("apt-get")):
        pytest.skip("a test cluster needs root and Debian's SLURM")
    port = 10000 + os.getpid() % 900 * 10
    settings = os.environ | {"SLURM_TEST_DIR": str(folder), "SLURM_TEST_DBD": "0", "SLURM_TEST_PORT": str(port)}
    try:
        installed = subprocess.run([CLUSTER / "install.sh"], env=settings, capture_output=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("SLURM could not be installed within five minutes")
    if installed.returncode:
        pytest.skip(f"SLURM could not be installed: {installed.stderr.decode(errors='replace')[-200:]}")
    release = None
    try:
        up = subprocess.run([CLUSTER / "start-slurm.sh"], env=settings, capture_output=True, timeout=120)
        if up.returncode:
            pytest.skip(f"SLURM could not be started: {up.stderr.decode(errors='replace')[-200:]}")
        client = settings | {"SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
        line = [CLUSTER / "release-requeued.sh", "3600"]
        release = subprocess.Popen(line, env=client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield client
    finally:
        if release:
            release.kill()
            release.wait()
        subprocess.run([CLUSTER / "stop-slurm.sh"], env=settings, capture_output=True, timeout=120, check=False)


def until(true: Callable[[], object], timeout_s: float, say: Callable[[], object] = str) -> None:
    """Waits for it; what `say` tells explains why it never came."""
    end = time.monotonic() + _PATIENCE * timeout_s
    while not true():
        assert time.monotonic() < end, say()
        time.sleep(0.2)


@contextmanager
def closed(slurm: dict[str, str]) -> Iterator[None]:
    """Inside, jobs are taken and none begins."""
    _set_partitions(slurm, "DOWN")
    try:
        yield
    finally:
        _set_partitions(slurm, "UP")


def _set_partitions(slurm: dict[str, str], state_: str) -> None:
    for name in ("gpu", "low"):
        ran("scontrol", "update", f"PartitionName={name}", f"State={state_}", env=slurm)


def state(job: str, slurm: dict[str, str]) -> str:
    shown = ran("scontrol", "show", "job", job, "--oneliner", env=slurm)
    return next(word.split("=")[1] for word in shown.split() if word.startswith("JobState="))


def ended(job: str, slurm: dict[str, str], logs: Path, timeout_s: float = 120) -> str:
    """The state in which the job ended. logs: the folder of its logs, for who must know why it did not."""
    until(
        lambda: state(job, slurm) not in _GOING,
        timeout_s,
        lambda: f"still {state(job, slurm)}: " + "".join(path.read_text() for path in logs.glob("*log*")),
    )
    return state(job, slurm)


def said(repository: Path, restarts: int = 0) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(repository.glob(f"said_{restarts}_*.json"))]
