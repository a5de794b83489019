import os
import signal

import pytest

from pathssl.training.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_is_heard_at_the_end_of_a_step_and_interrupts_nothing(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.agreed(save=False) == (False, False)
        os.kill(os.getpid(), number)
        assert interrupt.agreed(save=True) == (True, True) and interrupt.signal == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_stops_at_once():
    with pytest.raises(KeyboardInterrupt), Interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_forked_child_does_not_hear():
    with Interrupt() as interrupt:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(int(interrupt.signal is not None))
        assert os.waitpid(child, 0)[1] == 0
