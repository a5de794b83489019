"""Numbers on their way to a device and back, without host and device waiting for each other."""

import numpy as np
import torch


def on(device: torch.device, array: np.ndarray) -> torch.Tensor:
    """`array` on `device`; float64 becomes float32. The host does not wait for the device."""
    array = np.ascontiguousarray(array, np.float32 if array.dtype == np.float64 else array.dtype)
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


class Flag:
    """A boolean on its way to the host: who asks waits for what the device had to do before it, and for nothing after."""

    def __init__(self, flag: torch.Tensor):
        self._host, self._copied = flag, None
        if flag.is_cuda:
            self._host = torch.empty((), dtype=flag.dtype, pin_memory=True).copy_(flag, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def is_set(self) -> bool:
        if self._copied is not None:
            self._copied.synchronize()
        return bool(self._host)
