"""What the steps between two log lines came to."""

import resource
import time
from typing import Any

import torch

from pathssl.data.loader import Batch
from pathssl.distributed import gathered, sum_, world_size


class Window:
    """Means over the steps since the last log line and over all processes; sums stay on the device until they are asked for."""

    def __init__(self, device: torch.device):
        self.device, self.start = device, time.perf_counter()
        self.sums: dict[str, torch.Tensor] = {}
        self.steps, self.patches, self.waited_s, self.before_s = 0, 0, 0.0, 0.0

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
            "train/memory_gib": max((gib for _, gib in waited_and_memory), default=0.0),
        }

    def elapsed_s(self) -> float:
        return self.before_s + time.perf_counter() - self.start

    def start_again(self) -> None:
        """From here on time counts; what came between two windows does not."""
        self.start = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """What a run that is stopped between two log lines keeps of them; every process must ask."""
        kept = {name: getattr(self, name) for name in ("steps", "patches", "waited_s")} | {"before_s": self.elapsed_s()}
        return kept | {"sums": {name: total.cpu() for name, total in self._over_processes().items()}}

    def restore(self, state: dict[str, Any]) -> None:
        self.steps, self.patches = state["steps"], state["patches"]
        self.waited_s, self.before_s = state["waited_s"], state["before_s"]
        self.sums = {name: total.to(self.device) for name, total in state["sums"].items()}

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
