"""Batches on their way to the device."""

from collections.abc import Iterator

import torch

from pathssl.data.loader import Batch


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[tuple[Batch, torch.Tensor]]:
    """(batch, its pixels (n, P, P, 3) uint8 on `device`).

    On a CPU they are the loader's own memory, valid until the next batch is asked for. To a GPU a batch goes through page-locked memory
    on a stream of its own, one batch ahead, so that the copy runs beside the step before.
    """
    if device.type == "cpu":
        for batch in batches:
            yield batch, torch.from_numpy(batch.patches.pixels)
        return
    beside = torch.cuda.Stream(device)
    ahead: list[tuple[Batch, torch.Tensor, torch.cuda.Event]] = []
    for batch in batches:
        with torch.cuda.stream(beside):
            # The copy into page-locked memory is complete when `pin_memory` returns: the loader may reuse its own.
            pixels = torch.from_numpy(batch.patches.pixels).pin_memory().to(device, non_blocking=True)
            ahead.append((batch, pixels, beside.record_event()))
        if len(ahead) > 1:
            yield _arrived(*ahead.pop(0))
    for waiting in ahead:
        yield _arrived(*waiting)


def _arrived(batch: Batch, pixels: torch.Tensor, copied: torch.cuda.Event) -> tuple[Batch, torch.Tensor]:
    """The step reads the pixels once they are copied, and their memory stays theirs until the step has read them."""
    current = torch.cuda.current_stream(pixels.device)
    current.wait_event(copied)
    pixels.record_stream(current)
    return batch, pixels
