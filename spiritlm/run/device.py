"""The device that a process computes on, and which numbers it is quick at."""

from __future__ import annotations

import os
import warnings

import torch


def training_device() -> torch.device:
    """CUDA where there is one, the one of this process under torchrun."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def computes_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 itself; a CPU without AVX-512 does it in fifty times the time of float32."""
    if device.type != "cpu":
        return True
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_of_emulated_bf16(device: torch.device) -> None:
    if not computes_bf16(device):
        warnings.warn(
            "precision = bf16: this CPU has no instructions for it and may take fifty times as long as for fp32; "
            "expected training.precision=fp32",
            stacklevel=2,
        )
