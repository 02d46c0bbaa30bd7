"""Figures of a run's pace and health: tokens a second, share of the peak, waiting, memory, spikes of the loss."""

from __future__ import annotations

import statistics
from collections import deque

import torch

from spiritlm.engine.plan import GPUS
from spiritlm.run.stage import peak_memory_bytes

SPIKE_WINDOW, SPIKE_DEVIATIONS = 128, 6.0


class Meter:
    """Seconds of steps: since the last row of the log, and since this process began."""

    def __init__(self, tokens_per_step: int, flops_per_token: float, ranks: int) -> None:
        self._tokens = tokens_per_step
        peak = peak_flops()
        self._share_of_peak = flops_per_token / (peak * ranks) if peak else None
        self._steps = self._all_steps = 0
        self._seconds = self._waited = self._all_seconds = 0.0

    def add(self, seconds: float, waited: float) -> None:
        self._steps, self._all_steps = self._steps + 1, self._all_steps + 1
        self._seconds, self._all_seconds = self._seconds + seconds, self._all_seconds + seconds
        self._waited += waited

    def read(self) -> dict[str, float]:
        """`tokens_per_second` of all ranks, `data_wait_share`, and on a known GPU `mfu`, the share of its bf16 peak
        that the model's own work takes (see `plan.flops_per_token`)."""
        rate = self._steps * self._tokens / self._seconds
        row = {"tokens_per_second": rate, "data_wait_share": self._waited / self._seconds}
        if self._share_of_peak:
            row["mfu"] = rate * self._share_of_peak
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0
        return row

    def overall(self) -> float:
        """Tokens a second; 0 where this process took no step."""
        return self._all_steps * self._tokens / self._all_seconds if self._all_steps else 0.0


class Spikes:
    """Losses that stand out from those before them."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=SPIKE_WINDOW)

    def add(self, loss: float) -> float:
        """How many standard deviations `loss` lies above the mean of the last 128, where it is more than 6; else 0."""
        height = 0.0
        if len(self._losses) == SPIKE_WINDOW:
            deviation = statistics.pstdev(self._losses)
            height = (loss - statistics.fmean(self._losses)) / max(deviation, 1e-12)
        self._losses.append(loss)
        return height if height > SPIKE_DEVIATIONS else 0.0


def peak_flops() -> float:
    """bf16 FLOP/s of this process's GPU by its name, 0 where it is not known."""
    if not torch.cuda.is_available():
        return 0.0
    name = torch.cuda.get_device_name().lower().replace(" ", "")
    return next((gpu.peak for key, gpu in GPUS.items() if key.split("-")[0] in name), 0.0)


def memory_bytes() -> int:
    """Most memory used so far: of the GPU where there is one, else of this process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory_bytes()
