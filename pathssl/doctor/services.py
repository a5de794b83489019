"""What is around a run: SLURM, Weights & Biases, and the disks it writes to."""

import errno
import netrc
import os
import shutil
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pathssl.doctor.check import Check, last_line, run, within
from pathssl.doctor.machine import version
from pathssl.errors import UserError
from pathssl.files import locked, locked_or_refused
from pathssl.slides.remote.address import SCHEMES

_SLURM_LIMIT_S, _NETWORK_LIMIT_S, _DISK_LIMIT_S = 5.0, 4.0, 10.0
_LITTLE_DISK_BYTES = 10e9  # the checkpoints of one run of a large ViT
_PARTITIONS_SHOWN = 4


def slurm() -> Check:
    """Whether jobs can be sent from here."""
    if shutil.which("sbatch") is None:
        found = "no sbatch here: runs go through the local queue"
        return Check("SLURM", "absent", found, "On a cluster: log in to a node that submits jobs (module load slurm).")
    well, said = run(["scontrol", "ping"], _SLURM_LIMIT_S)
    if not well:
        remedy = "Try scontrol ping and ask the cluster's administrators; hydra/launcher=local runs here meanwhile."
        found = f"sbatch is here, but the controller does not answer: {last_line(said)}"
        return Check("SLURM", "broken", found, remedy)
    well, said = run(["sinfo", "-h", "-o", "%P %D %G"], _SLURM_LIMIT_S)
    if not well or not said:
        found = f"the controller answers, but shows no partition: {last_line(said)}"
        remedy = "sacctmgr show assoc user=$USER shows which accounts and partitions are yours."
        return Check("SLURM", "warning", found, remedy)
    rows = [f"{name} ({nodes} nodes, {gpus.replace('(null)', 'no GPU')})" for name, nodes, gpus in _columns(said)]
    more = f" and {len(rows) - _PARTITIONS_SHOWN} more" if len(rows) > _PARTITIONS_SHOWN else ""
    return Check("SLURM", "ok", f"the controller answers; partitions: {', '.join(rows[:_PARTITIONS_SHOWN])}{more}")


def _columns(said: str) -> list[list[str]]:
    return [words for line in said.splitlines() if len(words := line.split(maxsplit=2)) == 3]


def urls() -> Check:
    """From where slides can be read by URL."""
    here = [name for name, scheme in SCHEMES.items() if find_spec(scheme.package) is not None]
    lacking = {scheme.extra for scheme in SCHEMES.values() if scheme.extra and find_spec(scheme.package) is None}
    found = f"slides are read from {', '.join(f'{name}://' for name in here)}" if here else "slides are read from disks"
    if not lacking:
        return Check("URLs", "ok", found)
    return Check(
        "URLs", "absent", found, f"pip install -c constraints.txt '.[{','.join(sorted(lacking))}]' for the others."
    )


def wandb(settings: Mapping[str, Any] | None) -> Check:
    """Whether the mirror of the metrics will work; `settings` as in the config's logger.wandb. Never says the key."""
    there = version("wandb")
    if there is None:
        found = "wandb is not installed; logger=jsonl needs none"
        return Check("W&B", "absent", found, "pip install -c constraints.txt wandb.")
    host = urllib.parse.urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or "api.wandb.ai"
    mode = settings["mode"] if settings else None
    found = f"wandb {there}, {'logged in to' if (known := _logged_in(host)) else 'not logged in to'} {host}; "
    found += "this config does not use it (logger=jsonl)" if mode is None else f"mode {mode}"
    if mode == "offline":
        return Check("W&B", "ok", f"{found}: needs no account until wandb sync")
    if not known:
        state = "absent" if mode is None else "warning"
        remedy = "wandb login, for logger=wandb; logger=wandb_offline works without an account."
        return Check("W&B", state, found, remedy)
    if mode is None:
        return Check("W&B", "ok", found)
    try:
        within(_NETWORK_LIMIT_S, lambda: _connect(host))
    except (OSError, ValueError) as error:  # a name that is no host is a ValueError
        remedy = (
            "logger=wandb_offline, and wandb sync from a machine with internet; metrics.jsonl has everything anyway."
        )
        return Check("W&B", "warning", f"{found}, but {host} cannot be reached from here: {error}", remedy)
    return Check("W&B", "ok", f"{found}; {host} answers")


def _logged_in(host: str) -> bool:
    """Whether W&B's client would find a key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    named = os.environ.get("NETRC")
    for file in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(file).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _connect(host: str) -> None:
    """Opens and closes a connection to the host, or to the proxy that leads there."""
    proxy = None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get("https")
    to = urllib.parse.urlsplit(proxy if proxy and "://" in proxy else f"https://{proxy or host}")
    socket.create_connection((to.hostname, to.port or 443), timeout=_NETWORK_LIMIT_S).close()


def disk(name: str, folder: Path) -> Check:
    """Whether `folder`, or where it would be made, has space and can be written and locked."""
    try:
        return within(_DISK_LIMIT_S, lambda: _disk(name, Path(folder).absolute()))
    except TimeoutError as error:
        found = f"{folder}: writing or locking a file hangs ({error})"
        return Check(name, "broken", found, f"{name}=... on another disk; {_LOCKS}")


_LOCKS = "a network disk without locks needs NFS 4, or NFS 3 with lockd running on client and server (mount option local_lock=flock works "
_LOCKS += "where one machine writes)."
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def _disk(name: str, folder: Path) -> Check:
    try:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        with tempfile.TemporaryDirectory(prefix=".pathssl-doctor-", dir=there) as inside:
            holds = _locks(Path(inside) / "lock")
    except OSError as error:
        remedy = (
            f"{name}=... on another disk; {_LOCKS}"
            if error.errno in _NO_LOCKS
            else f"{name}=... to a folder that you may write to."
        )
        return Check(name, "broken", f"{folder}: {error.strerror or error}", remedy)
    where = f"{folder}" if there == folder else f"{folder} (not there yet)"
    found, figures = f"{where}: {free / 1e9:,.0f} GB free", {"free_bytes": free}
    if not holds:
        remedy = f"{name}=... on another disk; {_LOCKS}"
        return Check(name, "broken", f"{found}; a lock there keeps nobody out", remedy, figures)
    if free < _LITTLE_DISK_BYTES:
        remedy = f"Free some, or {name}=... on another disk: checkpoints of a large ViT take several GB a run."
        return Check(name, "warning", found, remedy, figures)
    return Check(name, "ok", f"{found}; writing and locking work", figures=figures)


def _locks(file: Path) -> bool:
    """Whether a lock that is held is refused to others."""
    with locked(file):
        try:
            with locked_or_refused(file, "held"):
                return False
        except UserError:
            return True
