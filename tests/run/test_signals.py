import os
import signal
from collections.abc import Iterator

import pytest

from spiritlm.run.signals import STOP_SIGNALS, StopFlag


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def test_handlers_return_where_no_signal_came() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with StopFlag() as stop:
        assert not stop.agreed()
    assert signal.getsignal(signal.SIGTERM) == former


def test_a_signal_sets_the_flag_and_those_after_it_end_nothing() -> None:
    interrupted = signal.getsignal(signal.SIGINT)
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.agreed()
        assert stop.received == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.getsignal(signal.SIGINT) == interrupted
