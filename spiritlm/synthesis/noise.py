"""Noise that is the same whenever it is drawn: by its place in the utterance, or by a published seed."""

from __future__ import annotations

import numpy as np
import torch

AT_ONCE = 64
"""Places whose noise is drawn together."""
PUBLISHED_SEED = 42
"""GLM-4-Voice's, at every call of its flow."""


def noise_at(start: int, stop: int, channels: int, at_once: int = AT_ONCE) -> torch.Tensor:
    """Standard normal float32 `[1, channels, stop - start]`, of the places from `start` on; each depends on its place
    alone. `at_once`: another number of places that are drawn together is another noise."""
    first, last = start // at_once, -(-stop // at_once)
    drawn = [torch.randn(channels, at_once, generator=_generator(number)) for number in range(first, last)]
    begin = start - first * at_once
    return torch.cat([*drawn, torch.zeros(channels, 0)], dim=1)[None, :, begin : begin + stop - start]


def _generator(number: int) -> torch.Generator:
    """torch's own generator hears the low 32 bits of a seed alone, and neighbouring seeds are mixed here first."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(number).generate_state(1)[0]))


def published_noise(frames: int, mels: int) -> torch.Tensor:
    """float32 `[1, mels, frames]` on the CPU."""
    return torch.randn(1, mels, frames, generator=torch.Generator().manual_seed(PUBLISHED_SEED))
