"""The processes that train one model together: under torchrun, under srun, or this one alone.

All functions are no-ops for one process alone, so that callers need not ask.
"""

import ctypes
import datetime
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from pathssl.errors import UserError

# Probes and checkpoints are the first process's work, and the others wait for it; a process that died is noticed at once all the same.
_TIMEOUT = datetime.timedelta(hours=6)
_OUTRANKS = 200  # the codes of processes that a signal ended, up to 128 + 64
_PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h


@dataclass(frozen=True)
class Placement:
    """Which process this is: `rank` of `world_size`, the `local_rank`-th on its node; `address` and `port` of the first one's node."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    address: str | None = None
    port: int | None = None


def placement(environ: Mapping[str, str] = os.environ) -> Placement:
    """As torchrun's variables say, else as srun's say, else alone."""
    if "TORCHELASTIC_RUN_ID" in environ or {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(environ):
        return Placement(
            rank=int(environ["RANK"]),
            world_size=int(environ["WORLD_SIZE"]),
            local_rank=int(environ.get("LOCAL_RANK", 0)),
            address=environ["MASTER_ADDR"],
            port=int(environ["MASTER_PORT"]),
        )
    # Set by srun, for its own tasks: SLURM_NTASKS alone stands in the batch script too, where there is one process.
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1:
        return Placement()
    return Placement(
        rank=int(environ["SLURM_PROCID"]),
        world_size=tasks,
        local_rank=int(environ["SLURM_LOCALID"]),
        address=_first_host(environ["SLURM_STEP_NODELIST"]),
        # Ports above the usual services; another job on the node gets another one.
        port=20000 + (int(environ["SLURM_JOB_ID"]) * 31 + int(environ["SLURM_STEP_ID"])) % 20000,
    )


def _first_host(nodes: str) -> str:
    """The first of SLURM's node list, such as node[03-07,12]."""
    if "[" not in nodes:
        return nodes.split(",")[0]
    listed = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, timeout=60, check=True
    )
    return listed.stdout.split()[0]


def start(kind: str) -> torch.device:
    """Joins the other processes, if there are any; gives this process's device.

    kind: "cuda" for NCCL between GPUs (gloo for what stays on CPUs), "cpu" for gloo.
    """
    place = placement()
    device = torch.device(kind)
    if kind == "cuda":
        # A task of srun may see its own GPU alone, whatever its number.
        device = torch.device(kind, place.local_rank if torch.cuda.device_count() > place.local_rank else 0)
        torch.cuda.set_device(device)
    if place.world_size == 1:
        return device
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _end_with_parent()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo",
        init_method=None if "TORCHELASTIC_RUN_ID" in os.environ else f"tcp://{place.address}:{place.port}",
        rank=place.rank,
        world_size=place.world_size,
        timeout=_TIMEOUT,
    )
    return device


def free_gpu(device: torch.device) -> str | None:
    """A GPU of the first process's node on which no process of the run trains, as CUDA_VISIBLE_DEVICES names it; "" where there is none.

    None where the run trains on CPUs, and for other processes; every process must ask.
    """
    nodes = gathered(platform.node())
    if device.type != "cuda" or not nodes:
        return None
    visible = torch.cuda.device_count()
    if visible <= nodes.count(platform.node()):
        return ""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[visible - 1] if names else str(visible - 1)


def _end_with_parent() -> None:
    """On Linux, a torchrun that is killed takes this process with it, which would go on in the run's folder, unseen, on its GPU."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop() -> None:
    """Leaves the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes the run's folder."""
    return rank() == 0


def sum_(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, summed over all processes in place."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.SUM)
    return tensor


def max_(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, the greatest of all processes in place."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor


def gathered(value: Any) -> list[Any]:
    """The `value` of every process, by rank; [] for all but the first."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, values)
    return values or []


def from_main(value: Any) -> Any:
    """The first process's `value`. The others wait for it."""
    if world_size() == 1:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


@contextmanager
def main_first() -> Iterator[None]:
    """The first process does what is inside before the others; where it fails, they raise `ElsewhereError`."""
    if is_main():
        done = False
        try:
            yield
            done = True
        finally:
            from_main(done)
    elif from_main(None):
        yield
    else:
        raise ElsewhereError


class ElsewhereError(RuntimeError):
    """Another process of this run failed, and has said why."""


def exit_code(code: int, error: BaseException | None) -> int:
    """The exit code of a process that ended with `error`; higher than those of any that are killed for want of it, where they are several.

    srun gives the highest of its processes' codes, by which slurm/requeue.sh tells a run that was killed from one that failed. An error
    that is only the loss of another process keeps `code`: what befell that one counts.
    """
    if world_size() == 1 or error is None or isinstance(error, dist.DistError) or "gloo" in str(error):
        return code
    return _OUTRANKS + code


def check_batch(size: int, accumulate: int) -> int:
    """The patches of a micro-batch: `size` shared equally by all processes and by `accumulate` passes of each.

    UserError where that is no whole number.
    """
    parts = world_size() * accumulate
    if size % parts:
        raise UserError(
            f"batch.size={size} cannot be shared equally by {world_size()} processes with parallel.accumulate={accumulate}: "
            f"{size - size % parts} or {size - size % parts + parts} could."
        )
    return size // parts
