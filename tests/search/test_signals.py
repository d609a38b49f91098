"""A signal that is to end a training ends it, at whatever moment it is heard."""

import os
import signal
import time

import pytest

from search.machine import signals


class HearsWhileItGoes:
    """Its last act is to send a signal to this process, whose exception nobody can catch then."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        for _ in range(1_000):  # handlers run between two instructions
            pass


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_heard_while_an_object_is_let_go_is_not_lost(
    number: int, expected: type[BaseException]
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(expected) as raised, signals.sigterm_raises():
            HearsWhileItGoes(number)
            time.sleep(60)
    finally:
        signal.signal(signal.SIGINT, before)
    if expected is SystemExit:
        assert raised.value.code == signals.SIGTERM_CODE  # type: ignore[attr-defined]


def test_sigterm_means_afterwards_what_it_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), signals.sigterm_raises():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
