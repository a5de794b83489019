"""What the steps between two log lines came to."""

import time

import torch

from pathssl.data.loader import Batch


class Window:
    """Means over the steps since the last log line; sums stay on the device until they are asked for."""

    def __init__(self, device: torch.device):
        self.device, self.start = device, time.perf_counter()
        self.sums: dict[str, torch.Tensor] = {}
        self.steps, self.patches, self.waited_s, self.replaced = 0, 0, 0.0, 0

    def arrived(self, batch: Batch) -> None:
        self.waited_s += batch.waited_s
        self.replaced += len(batch.patches.replaced)

    def add(self, terms: dict[str, torch.Tensor], patches: int) -> None:
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()
        self.steps, self.patches = self.steps + 1, self.patches + patches

    def row(self) -> dict[str, float]:
        means = {f"train/{name}": (total / self.steps).item() for name, total in self.sums.items()}
        elapsed_s = self.elapsed_s()
        return means | {
            "train/patches_per_s": self.patches / elapsed_s,
            "train/data_wait": self.waited_s / elapsed_s,
            "train/replaced_patches": self.replaced,
        }

    def elapsed_s(self) -> float:
        return time.perf_counter() - self.start
