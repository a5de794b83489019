"""Features on disk, under a key of everything that they follow from.

A name is never a part of the key: a model's name stays when its weights change.
"""

import contextlib
import hashlib
import io
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pathssl.files import write_atomic

log = logging.getLogger(__name__)
VERSION = 1  # of how images become features: another one leaves what was kept before
_SUFFIX = ".npy"
_LEFT_BEHIND_S = 3600.0  # a file that was begun so long ago has lost its writer


class FeatureCache:
    """Arrays in `folder`, at most `mib` of them; those that were not used for longest go first.

    Several processes may use it at once: files are whole or absent, and one that vanishes or cannot be read is computed again.
    """

    def __init__(self, folder: Path, *, mib: float):
        self.folder, self.bytes = Path(folder), mib * 2**20

    def get(self, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of `key`, computed where it is not there."""
        path = self.folder / f"{key}{_SUFFIX}"
        try:
            array = np.load(path, allow_pickle=False)
            os.utime(path)
            return array
        except FileNotFoundError:
            pass
        except (ValueError, EOFError, OSError) as error:
            log.warning("Features in the cache cannot be read and are computed again: %s (%s).", path, error)
        array = compute()
        if array.nbytes <= self.bytes:
            self._keep(path, array)
        return array

    def _keep(self, path: Path, array: np.ndarray) -> None:
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        try:
            write_atomic(path, content.getbuffer())
            self._bound()
        except OSError as error:  # a full disk costs time, not the numbers
            log.warning("Features cannot be kept in %s (%s); they will be computed again.", self.folder, error)

    def _bound(self) -> None:
        """Removes the files that were used longest ago until the rest is small enough."""
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            try:
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
            except FileNotFoundError:  # another process removed it
                continue
        for path in self.folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                    path.unlink()
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def weights_hash(encoder: nn.Module) -> str:
    """Of every parameter and buffer, by name, shape, type and content."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def key_of(*parts: object) -> str:
    """One key of everything that features follow from."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
