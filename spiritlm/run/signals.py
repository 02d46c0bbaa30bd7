"""The stop flag: SIGTERM, SIGINT and SIGUSR1 ask a training loop to save and end at its next step."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopFlag:
    """Context manager that turns the stop signals into a flag; the former handlers return when it ends.

    Once a signal has come, further SIGTERM and SIGUSR1 are ignored for good: who stops a job signals each of its
    processes several times, and one that has saved must live to say so.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> StopFlag:
        self._former = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            ending = self.received is not None and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if ending else handler)

    def agreed(self) -> bool:
        """True on every rank as soon as one rank was signalled. Collective: all ranks call it at the same step."""
        if not (dist.is_initialized() and dist.get_world_size() > 1):
            return self.received is not None
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        raised = torch.tensor(float(self.received is not None), device=device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return bool(raised.item())
