"""What the steps between two log lines came to."""

import resource
import time
from typing import Any

import torch

from pathssl.data.loader import Batch
from pathssl.distributed import gathered, rank, sum_, world_size

_COUNTED = ("steps", "patches", "replaced", "waited_s")


class Window:
    """Means over the steps since the last log line and over all processes; sums stay on the device until they are asked for.

    replaced: the draws that failed, which the first process counts for all.
    """

    def __init__(self, device: torch.device):
        self.device, self.start = device, time.perf_counter()
        self.sums: dict[str, torch.Tensor] = {}
        self.steps, self.patches, self.replaced, self.waited_s, self.before_s = 0, 0, 0, 0.0, 0.0

    def arrived(self, batch: Batch) -> None:
        self.waited_s += batch.waited_s

    def add(self, terms: dict[str, torch.Tensor], patches: int) -> None:
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()
        self.steps, self.patches = self.steps + 1, self.patches + patches

    def row(self) -> dict[str, float]:
        """The means by their keys in metrics.jsonl; every process must ask."""
        means = {f"train/{name}": (total / self.steps).item() for name, total in self._over_processes().items()}
        elapsed_s = self.elapsed_s()
        waited_and_memory = gathered((self.waited_s, self._memory_gib()))
        return means | {
            "train/patches_per_s": self.patches / elapsed_s,
            "train/data_wait": max((waited_s for waited_s, _ in waited_and_memory), default=0.0) / elapsed_s,
            "train/replaced_patches": self.replaced,
            "train/memory_gib": max((gib for _, gib in waited_and_memory), default=0.0),
        }

    def elapsed_s(self) -> float:
        return self.before_s + time.perf_counter() - self.start

    def start_again(self) -> None:
        """From here on time counts; what came between two windows does not."""
        self.start = time.perf_counter()

    def state(self) -> list[dict[str, Any]]:
        """What a run that saves its state between two log lines keeps of each process, in the first; every process must ask."""
        kept = {name: getattr(self, name) for name in _COUNTED} | {"before_s": self.elapsed_s()}
        return gathered(kept | {"sums": {name: total.cpu() for name, total in self.sums.items()}})

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Takes its own back; where the processes are others now, each takes their mean."""
        own = states[rank()] if len(states) == world_size() else _mean(states)
        self.before_s = own["before_s"]
        for name in _COUNTED:
            setattr(self, name, own[name])
        self.sums = {name: total.to(self.device, copy=True) for name, total in own["sums"].items()}

    def _over_processes(self) -> dict[str, torch.Tensor]:
        if world_size() == 1 or not self.sums:
            return self.sums
        means = sum_(torch.stack([total.float() for total in self.sums.values()])) / world_size()
        return dict(zip(self.sums, means, strict=True))

    def _memory_gib(self) -> float:
        """The most memory that this process has taken so far: the GPU's, or, on a CPU, the process's."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _mean(states: list[dict[str, Any]]) -> dict[str, Any]:
    """Of several processes; what the first counts for all is its own."""
    names = states[0]["sums"]
    return states[0] | {
        "sums": {name: torch.stack([state["sums"][name] for state in states]).mean(0) for name in names}
    }
