"""The source of a vocoder: sines of a fundamental frequency and its harmonics, and noise.

Published vocoders mix them into one signal, which the network learns to filter. A `bank` (not published) also keeps
each harmonic for itself, and the network says how loud it is (Engel et al. 2020, DDSP): so a small vocoder speaks at
its F0 within minutes, where one that has to filter finds out that silence of the source costs less.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt
from torch import nn

from spiritlm.config import Recipe
from spiritlm.synthesis.noise import noise_at

SAMPLES_OF_NOISE, SAMPLES_AT_ONCE = 4096, 16_384
"""That are drawn at a time, and whose phases, in float64, are in memory together."""
HIGHEST = 0.45
"""Of the sample rate, up to which a harmonic is kept apart."""
QUIET = -4.6
"""Logarithm of the amplitude that harmonics begin with."""
COARSE = 64
"""Samples, at most, of a frame that amplitudes are read off."""


class SourceShape(Recipe):
    """Harmonics and noise; what is given here is the published one."""

    sample_rate: PositiveInt = 22_050
    harmonics: NonNegativeInt = 8
    """Beside the fundamental."""
    sine_amplitude: float = 0.1
    noise: float = 0.003
    """Deviation of the noise of voiced samples; of others a third of `sine_amplitude`."""
    voiced_threshold: float = 10.0
    """Hz; frames under it are unvoiced."""
    bank: NonNegativeInt = 0
    """Harmonics, the fundamental counted, that are also kept apart; 0 as published."""
    source: Literal["by sample", "by frame"] = "by sample"
    """How the published models accumulate the phase: sample by sample (22.05 kHz), or frame by frame with linear
    interpolation between frames (24 kHz)."""


class Harmonics(nn.Module):
    """Sines of the fundamental and its harmonics, and noise, mixed into one source."""

    def __init__(self, shape: SourceShape, hop: int) -> None:
        """`hop`: samples that a fundamental frequency holds for."""
        super().__init__()
        self.shape, self.hop = shape, hop
        self.l_linear = nn.Linear(shape.harmonics + 1, 1)

    @property
    def parts(self) -> int:
        """Sines whose phases are kept."""
        return max(self.shape.harmonics + 1, self.shape.bank)

    def turns(self, f0: torch.Tensor) -> torch.Tensor:
        """Of a sample, of the fundamental and its harmonics, less whole ones: `f0` Hz `[batch, frames]` -> float64
        `[batch, frames, parts]`."""
        multiples = torch.arange(1, self.parts + 1, device=f0.device, dtype=torch.float64)
        return f0.double()[..., None] * multiples / self.shape.sample_rate % 1

    def forward(
        self, f0: torch.Tensor, start: torch.Tensor, noise: torch.Tensor, published: bool = False
    ) -> torch.Tensor:
        """`f0` Hz `[batch, frames]`, `noise` standard normal `[batch, samples, harmonics + 1]` -> source
        `[batch, 1 + bank, samples]`: the mixture, then the harmonics that are kept apart, of amplitude 1 where they are
        voiced and under `HIGHEST` of the sample rate.

        `start` `[batch, parts]`: phases at the first sample, in turns. `published`: phases add up as `shape.source`
        says; by default sample by sample, so that a stream can go on from any frame.
        """
        shape, hop, turns = self.shape, self.hop, self.turns(f0)
        by_frame = published and shape.source == "by frame"
        phases = _by_frame(turns, start, hop) if by_frame else _by_sample(turns, start, hop)
        voiced = (f0 > shape.voiced_threshold).repeat_interleave(hop, dim=1)[..., None]
        sines = torch.sin(2 * math.pi * phases).to(noise.dtype) * voiced
        deviation = torch.where(voiced, shape.noise, shape.sine_amplitude / 3)
        with torch.autocast(f0.device.type, enabled=False):
            mixed = shape.sine_amplitude * sines[..., : shape.harmonics + 1] + deviation * noise
            mixture = torch.tanh(self.l_linear(mixed)).transpose(1, 2)
        if not shape.bank:
            return mixture
        multiples = torch.arange(1, shape.bank + 1, device=f0.device)
        low = f0[..., None] * multiples < HIGHEST * shape.sample_rate
        kept = sines[..., : shape.bank] * low.repeat_interleave(hop, dim=1)
        return torch.cat([mixture, kept.transpose(1, 2)], dim=1)

    def at_random(self, f0: torch.Tensor) -> torch.Tensor:
        """A source of `f0` Hz `[batch, frames]` with phases and noise drawn at random, as of `forward`."""
        samples = f0.shape[1] * self.hop
        start = torch.rand(len(f0), self.parts, device=f0.device, dtype=torch.float64)
        start[:, 0] = 0  # the fundamental's
        noise = torch.randn(len(f0), samples, self.shape.harmonics + 1, device=f0.device)
        return self(f0, start, noise, published=True)


def _by_sample(turns: torch.Tensor, start: torch.Tensor, hop: int) -> torch.Tensor:
    """Phases, in turns, of `hop` samples a frame: in float64, where no length makes them drift."""
    return (turns.repeat_interleave(hop, dim=1).cumsum(1) % 1) + start[:, None]


def _by_frame(turns: torch.Tensor, start: torch.Tensor, hop: int) -> torch.Tensor:
    """As CosyVoice 2: turns are read off in the middle of each frame, added up frame by frame, and spread."""
    by_sample = turns.repeat_interleave(hop, dim=1)
    by_sample[:, 0] += start
    frames = F.interpolate(by_sample.transpose(1, 2), scale_factor=1 / hop, mode="linear").cumsum(2)
    return F.interpolate(frames * hop, scale_factor=float(hop), mode="linear").transpose(1, 2)


class Amplitudes(nn.Module):
    """How loud each harmonic of a bank is: read off frames, in straight lines between their middles."""

    def __init__(self, channels: int, bank: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, bank, 1)
        assert self.conv.bias is not None
        nn.init.constant_(self.conv.bias, QUIET)

    def forward(self, x: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
        """`x` `[batch, channels, frames]`, `sines` `[batch, bank, samples]`, a whole number a frame -> their sum
        `[batch, samples]`."""
        padded = F.pad(self.conv(x).exp().clamp(max=1), (1, 1), mode="replicate")[..., None]
        hop = sines.shape[2] // x.shape[2]
        from_middle = (torch.arange(hop, device=x.device) + 0.5) / hop - 0.5  # of a frame, in frames
        before, after = (-from_middle).clamp(min=0), from_middle.clamp(min=0)
        amplitudes = padded[:, :, :-2] * before + padded[:, :, 2:] * after
        amplitudes = amplitudes + padded[:, :, 1:-1] * (1 - before - after)
        return (amplitudes.flatten(2) * sines).sum(1)


class SourceStream:
    """Fundamental frequencies of one utterance in, its source out; pieces put together are that of the whole.

    The phase is carried on in float64, and the noise depends on the place of a sample alone."""

    def __init__(self, harmonics: Harmonics) -> None:
        self._harmonics, self._sample = harmonics, 0
        device = harmonics.l_linear.weight.device
        self._phase = torch.zeros(1, harmonics.parts, dtype=torch.float64, device=device)

    def push(self, f0: torch.Tensor) -> torch.Tensor:
        """Hz `[1, frames]` -> `[1, 1 + bank, samples]`."""
        at_once = max(1, SAMPLES_AT_ONCE // self._harmonics.hop)
        pieces = [self._piece(piece) for piece in f0.split(at_once, dim=1)]
        empty = torch.zeros(1, 1 + self._harmonics.shape.bank, 0, device=f0.device)
        return torch.cat([empty, *pieces], dim=2)

    def _piece(self, f0: torch.Tensor) -> torch.Tensor:
        mixed, hop = self._harmonics.shape.harmonics + 1, self._harmonics.hop
        start, stop = self._sample, self._sample + f0.shape[1] * hop
        noise = noise_at(start, stop, mixed, SAMPLES_OF_NOISE).transpose(1, 2).to(f0.device)
        source = self._harmonics(f0, self._phase, noise)
        self._phase = (self._phase + hop * self._harmonics.turns(f0).sum(1)) % 1
        self._sample = stop
        return source
