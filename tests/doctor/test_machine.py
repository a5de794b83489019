import contextlib

import numpy as np
import pytest
from fake_files import write_files

from pathssl.doctor import machine

GB = 10**9


def config(**changes):
    """What the checks of the machine look at."""
    return {
        "train": {"threads": 1},
        "loader": {"workers": 1, "prefetch": 4, "open_slides": 16},
        "region": {"patches": 1, "width": 1.0, "chunk_batches": 1},
        "resolution": {"patch_px": 256},
        "batch": {"size": 256},
        **changes,
    }


MEMINFO = {"proc/meminfo": "MemTotal: 32000000 kB\nMemFree: 1 kB\nMemAvailable: 16000000 kB\n"}


def test_packages_of_other_versions_are_warned_of_unless_only_the_build_differs(monkeypatch):
    real = machine.version
    monkeypatch.setattr(
        machine, "version", lambda name: {"torch": "1.0+cu1", "timm": f"{real(name)}+x"}.get(name, real(name))
    )
    found = machine.packages()[1]
    assert found.state == "warning" and "torch 1.0+cu1 (tested: " in found.found and "timm" not in found.found
    assert "pip install torch==" in found.remedy


def test_more_workers_than_cores_are_warned_of_with_the_number_that_fits(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: (4.0, ""))
    assert machine.cpu(config()).state == "ok"
    found = machine.cpu(config(loader={"workers": 7}, train={"threads": 2}))
    assert found.state == "warning" and "takes 9" in found.found and "loader.workers=2" in found.remedy


@pytest.mark.parametrize(("available", "state"), [(10 * GB, "ok"), (400_000_000, "warning"), (100_000_000, "broken")])
def test_memory_is_compared_with_what_the_loader_keeps(available, state, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: (available, ""))
    found = machine.memory(config())
    assert found.state == state and found.figures["loader_bytes"] == 5 * 256 * 256**2 * 3
    assert state == "ok" or "loader.prefetch" in found.remedy


def test_the_loader_keeps_whole_chunks_and_without_workers_only_one(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: (10 * GB, ""))
    four = {"patches": 4, "width": 2.0, "chunk_batches": 4}
    batch = 256 * 256**2 * 3
    for workers, prefetch, batches in ((1, 4, 8), (1, 5, 12), (0, 5, 4)):
        settings = {"workers": workers, "prefetch": prefetch}
        found = machine.memory(config(region=four, loader=settings))
        assert found.figures["loader_bytes"] == batches * batch, settings


def test_the_loader_really_keeps_what_memory_says(index, monkeypatch):
    from pathssl.data import loader as data_loader
    from pathssl.data.patches import PatchReader
    from pathssl.data.sampling import Region, Sampler

    kept = []

    class Memory(data_loader.Memory):
        def __init__(self, **places):
            super().__init__(**places)
            kept.append(self.pixels.nbytes)

    monkeypatch.setattr(data_loader, "Memory", Memory)
    monkeypatch.setattr(data_loader, "Crew", lambda reader, memory, _: data_loader.Alone(reader, memory))
    for region in ({"patches": 1, "width": 1.0, "chunk_batches": 1}, {"patches": 4, "width": 2.0, "chunk_batches": 4}):
        settings = config(
            region=region, batch={"size": 8}, resolution={"patch_px": 32}, loader={"workers": 2, "prefetch": 5}
        )
        sampler = Sampler(
            index, slides=np.arange(len(index)), mpp=[0.5], weight=[1.0], patch_px=32, min_tissue=0.4, batch_size=8,
            region=Region(**region),
        )  # fmt: skip
        batches = data_loader.Loader(PatchReader(sampler, seed=0, open_slides=4), workers=2, prefetch=5).batches(0, 40)
        with contextlib.closing(batches):
            next(batches)
        assert machine.memory(settings).figures["loader_bytes"] == kept[-1]


def test_the_tightest_memory_limit_of_the_control_groups_counts(tmp_path):
    jobs = {
        **MEMINFO,
        "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
        "sys/fs/cgroup/slurm/job_7/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/slurm/job_7/memory.current": f"{3 * GB}\n",
        "sys/fs/cgroup/slurm/job_7/memory.stat": f"anon {GB}\ninactive_file {2 * GB}\n",
        "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max\n",
        "sys/fs/cgroup/slurm/job_7/step_0/memory.current": "5\n",
    }
    available, limit = machine.available_memory(write_files(tmp_path, jobs))
    assert available == 3 * GB and "limit" in limit
    old = {
        **MEMINFO,
        "proc/self/cgroup": "4:memory:/of/the/host\n2:cpuacct,cpu:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0",
    }
    assert machine.available_memory(write_files(tmp_path / "old", old))[0] == GB
    assert machine.available_memory(write_files(tmp_path / "free", MEMINFO)) == (16_000_000 * 1024, "")


@pytest.mark.parametrize(
    "quota", [{"cpu.max": "50000 100000"}, {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}]
)
def test_a_cpu_quota_limits_the_cores(quota, tmp_path):
    old = "cpu.max" not in quota
    groups = {"proc/self/cgroup": "2:cpu:/a\n" if old else "0::/a\n"}
    groups |= {f"sys/fs/cgroup/{'cpu/' if old else ''}a/{name}": text for name, text in quota.items()}
    cores, limit = machine.usable_cores(write_files(tmp_path, groups))
    assert cores == 0.5 and "limit" in limit
