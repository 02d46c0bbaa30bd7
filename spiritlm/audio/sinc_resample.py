"""The resampler of published front ends: a sinc under a Hann window, six zero crossings wide.

Ours reads sound with soxr (`spiritlm/audio/files.py`); this one is for giving a published tokenizer the very samples
that its authors gave it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

CROSSINGS = 6
"""Zero crossings of the sinc on either side."""
ROLLOFF = 0.99
"""Where the filter cuts off, as a share of the lower Nyquist frequency."""


def sinc_resample(wave: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """`wave` float32 `[samples]` at `rate` Hz -> float32 `[ceil(samples * new_rate / rate)]` at `new_rate` Hz."""
    shared = math.gcd(rate, new_rate)
    old, new = rate // shared, new_rate // shared
    if old == new:
        return wave
    cutoff = min(old, new) * ROLLOFF
    reach = math.ceil(CROSSINGS * old / cutoff)  # samples
    taps = torch.arange(-reach, reach + old, dtype=torch.float64) / old
    phases = -torch.arange(new, dtype=torch.float64) / new
    times = ((phases[:, None] + taps) * cutoff).clamp(-CROSSINGS, CROSSINGS)  # [new, taps], in zero crossings
    kernels = torch.sinc(times) * torch.cos(times * math.pi / CROSSINGS / 2).square() * (cutoff / old)
    padded = F.pad(wave, (reach, reach + old))[None, None]
    resampled = F.conv1d(padded, kernels.to(wave.dtype)[:, None], stride=old)[0]  # [new, n]
    return resampled.T.flatten()[: -(-len(wave) * new // old)]
