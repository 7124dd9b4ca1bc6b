from __future__ import annotations

import os
import signal

import pytest

from magpie_local.cli.interrupts import Interrupts, Leave


def test_the_first_interrupt_asks_for_a_stop_and_the_second_leaves() -> None:
    asked: list[int] = []

    with Interrupts(lambda: asked.append(1)) as signals:
        signal.raise_signal(signal.SIGINT)
        assert (signals.asked, asked) == (True, [1])
        with pytest.raises(Leave):
            signal.raise_signal(signal.SIGINT)

    assert signals.left == 130
    assert asked == [1]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_closed_terminal_leaves_at_once(signum: signal.Signals, code: int) -> None:
    asked: list[int] = []

    with Interrupts(lambda: asked.append(1)) as signals, pytest.raises(Leave):
        signal.raise_signal(signum)

    assert (signals.left, asked) == (code, [])


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)

    with Interrupts(lambda: None):
        pass

    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
