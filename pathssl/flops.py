"""How much of a GPU's arithmetic is put to use."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode

# Dense bf16 in TFLOP/s, by a part of the device's name; the first that fits counts. NVIDIA's data sheets of the H200 (2024), H100 (2023)
# and A100 (2021) GPUs; those of H200 and H100 state twice as much, with sparsity.
_PEAK_TFLOPS = {
    "H200 NVL": 1671 / 2,
    "H200": 1979 / 2,
    "H100 NVL": 1671 / 2,
    "H100 PCIe": 1513 / 2,
    "H100": 1979 / 2,
    "A100": 312.0,
}


def counted(run: Callable[[], object]) -> int:
    """The floating-point operations of the matrix products, convolutions and attention that `run` does, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def peak(device: str) -> float | None:
    """FLOP/s that the device could do at most, dense and in bf16; None for devices that are not in the table."""
    return next((tflops * 1e12 for name, tflops in _PEAK_TFLOPS.items() if name in device), None)
