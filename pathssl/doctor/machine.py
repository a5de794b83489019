"""Python, packages, cores and memory."""

import importlib.metadata
import math
import os
import platform
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pathssl.doctor.check import Check

ROOT = Path(__file__).resolve().parents[2]
CUCIM = ("cucim-cu13", "cucim-cu12", "cucim")  # one and the same, for several versions of CUDA
IMPORTANT = ("torch", "timm", "hydra-core", "wandb", "numpy", *CUCIM)
INSTALL = "make env, or in an environment of your own: pip install -c constraints.txt -e ."
_GB = 1e9


def packages() -> list[Check]:
    """Python itself, and whether the packages of pyproject.toml are there, the important ones as they were tested."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [re.match(r"[\w.-]+", line)[0] for line in project["dependencies"]]
    pins = dict(line.split("==") for line in _pins((ROOT / "constraints.txt").read_text()))
    installed = {name: found for name in [*required, *CUCIM] if (found := version(name)) is not None}
    missing = [name for name in required if name not in installed]
    # cuCIM of another CUDA is the same cuCIM; a build tag like +cu130 is the same torch.
    tested = {name: pins.get(name, pins.get(CUCIM[0])) for name in IMPORTANT if name in installed}
    other = {name: pin for name, pin in tested.items() if installed[name].split("+")[0] != pin}
    checks = [_python(project["requires-python"])]
    if missing:
        found = f"{len(missing)} of {len(required)} are not installed: {', '.join(missing)}"
        return [*checks, Check("packages", "broken", found, f"{INSTALL}.")]
    if other:
        found = ", ".join(f"{name} {installed[name]} (tested: {pin})" for name, pin in other.items())
        remedy = (
            f"Where something fails or results differ: pip install {' '.join(f'{n}=={p}' for n, p in other.items())}."
        )
        return [*checks, Check("packages", "warning", found, remedy)]
    found = f"all {len(required)}; as tested: " + ", ".join(f"{name} {pin}" for name, pin in tested.items())
    return [*checks, Check("packages", "ok", found)]


def _python(needed: str) -> Check:
    least = tuple(map(int, re.findall(r"\d+", needed)))
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if tuple(map(int, platform.python_version_tuple()[:2])) < least:
        return Check("Python", "broken", found, f"pathssl needs Python {needed}: make env PYTHON=/path/to/python3.11.")
    return Check("Python", "ok", found)


def _pins(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if "==" in line and not line.startswith("#"):
            yield line.strip()


def version(package: str) -> str | None:
    """The installed version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu(config: Mapping[str, Any]) -> Check:
    """Whether the configured workers and threads have a core each."""
    cores, limit = usable_cores()
    threads, workers = config["train"]["threads"], config["loader"]["workers"]
    found = f"{cores:g} cores{limit}; a run here takes {workers + threads}: "
    found += f"loader.workers={workers}, train.threads={threads}"
    if workers + threads > cores:
        remedy = f"loader.workers={max(0, math.floor(cores) - threads)}, or ask for more cores: they would take turns."
        return Check("CPU", "warning", found, remedy, {"cores": cores})
    return Check("CPU", "ok", found, figures={"cores": cores})


def usable_cores(root: Path = Path("/")) -> tuple[float, str]:
    """(cores that this process may use, what limits them, as words to add)."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quotas = []
    for folder in _cgroup("cpu", root):
        share = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(share) == 2 and share[0] not in ("max", "-1"):
            quotas.append(float(share[0]) / float(share[1]))
    if quotas and min(quotas) < allowed:
        return min(quotas), f" (of {allowed:g}, by a limit on this job or container)"
    machine = os.cpu_count() or 1
    return allowed, f" (of {machine})" if allowed < machine else ""


def memory(config: Mapping[str, Any]) -> Check:
    """Whether the batches that the loader prepares ahead fit into memory."""
    from pathssl.data.loader import kept_chunks  # numpy may be what is missing
    from pathssl.data.sampling import Region

    available, limit = available_memory()
    loader, side = config["loader"], config["resolution"]["patch_px"]
    together = Region(**config["region"]).together
    kept = kept_chunks(loader["workers"], loader["prefetch"], together) * together
    batch = config["batch"]["size"] * side**2 * 3
    need = kept * batch
    found = f"{available / _GB:,.1f} GB available{limit}; the loader keeps {kept} batches of {batch / 1e6:,.0f} MB, "
    found += f"{need / _GB:,.1f} GB" if need > _GB else f"{need / 1e6:,.0f} MB"
    figures = {"available_bytes": available, "loader_bytes": need}
    remedy = "Fewer batches ahead (loader.prefetch), a smaller batch.size, or more memory for the job."
    if need > available:
        return Check("memory", "broken", found, remedy, figures)
    if need > available / 2:
        return Check("memory", "warning", f"{found}, more than half", remedy, figures)
    return Check("memory", "ok", found, figures=figures)


def available_memory(root: Path = Path("/")) -> tuple[int, str]:
    """(bytes that this process may still take, what limits them, as words to add)."""
    meminfo = _words(root / "proc/meminfo")
    if "MemAvailable:" in meminfo:
        free = int(meminfo[meminfo.index("MemAvailable:") + 1]) * 1024
    else:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = []
    for folder in _cgroup("memory", root):
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            if (most := _words(folder / limit)) and most[0] != "max":
                # Files that are only cached are given up before anything fails.
                stat = _words(folder / "memory.stat")
                reclaimable = int(stat[stat.index(cached) + 1]) if cached in stat else 0
                left.append(int(most[0]) - int(_words(folder / used)[0]) + reclaimable)
    if left and min(left) < free:
        return max(0, min(left)), " (by a limit on this job or container)"
    return free, ""


def _cgroup(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in for `controller`, the innermost first; none where there are none."""
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("" if number == "0" else controllers)
        # Inside a container the path may be the host's: then only the mount's own folder is seen.
        inner = mount / path.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount) and folder.is_dir())


def _words(file: Path) -> list[str]:
    """What the file says, word by word; nothing where it is not there."""
    return file.read_text().split() if file.is_file() else []
