import os
import signal

from spiritlm.run.signals import StopFlag


def test_a_signal_sets_the_flag_and_handlers_return() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with StopFlag() as stop:
        assert not stop.agreed()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.agreed()
        assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == former
