"""A wish to stop: SIGTERM, SIGUSR2 (SLURM's warning before the end) or Ctrl-C, heard at the end of a step."""

import logging
import os
import signal
from types import FrameType

import torch

from pathssl.distributed import max_

log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """The run saved its state and stopped because it was asked to, here by `signal` or in another of its processes."""

    signal: int | None = None


class Interrupt:
    """Inside, the signals only set a flag; a second Ctrl-C stops at once."""

    def __init__(self):
        self.signal: int | None = None
        self._main = os.getpid()

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Interrupted):
            error.signal = self.signal
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._main:
            return
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        log.info(
            "%s: saving after this step, then stopping%s.",
            signal.Signals(number).name,
            " (again: stop at once, and lose what came after the last saved state)" if number == signal.SIGINT else "",
        )

    def agreed(self, save: bool) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether any asks to `save`; all ask at the same step, and act together."""
        stop, save = max_(torch.tensor([self.signal is not None, save], dtype=torch.int32)).tolist()
        return bool(stop), bool(save)
