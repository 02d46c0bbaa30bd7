"""Who tells a vocoder's waveform from a recording: by periods (HiFi-GAN) and by spectrograms of several resolutions.

Each gives scores, one for a patch, and the features of its layers. The losses are least squares, the distance of
features, and the truncated pointwise relativistic term (StyleTTS 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveInt, model_validator
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from spiritlm.config import Recipe

Judged = tuple[torch.Tensor, list[torch.Tensor]]
"""Scores, and the features of the layers."""
SLOPE = 0.1
RELATIVE_LIMIT = 0.04


class DiscriminatorShape(Recipe):
    """Sizes; what is given here is HiFi-GAN's, and CosyVoice's for spectrograms."""

    periods: tuple[PositiveInt, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[PositiveInt, ...] = (32, 128, 512, 1024, 1024)
    windows: tuple[PositiveInt, ...] = (1024, 2048, 512)
    """Samples of the spectrograms' windows; they move by an eighth of it."""
    spectral_channels: PositiveInt = 32

    @model_validator(mode="after")
    def _fits_together(self) -> DiscriminatorShape:
        if not self.period_channels or not (self.periods or self.windows):
            raise ValueError("period_channels, and periods or windows: expected at least one")
        return self


class AdversarialWeights(Recipe):
    """Of the parts of the vocoder's loss; what is given here is CosyVoice's."""

    mel: NonNegativeFloat = 45.0
    features: NonNegativeFloat = 2.0
    relativistic: NonNegativeFloat = 1.0
    f0: NonNegativeFloat = 1.0
    """Of F0's mean distance, Hz."""


class ByPeriod(nn.Module):
    """The wave folded by a period, convolved along time alone."""

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        strides = [3] * (len(channels) - 1) + [1]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, outputs, (5, 1), (stride, 1), padding=(2, 0)))
            for inputs, outputs, stride in zip((1, *channels), channels, strides, strict=False)
        )
        self.last = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: torch.Tensor) -> Judged:
        """`[batch, samples]`."""
        wave = F.pad(wave, (0, -wave.shape[1] % self.period), mode="reflect")
        return _judged(wave.view(len(wave), 1, -1, self.period), self.convs, self.last)


class BySpectrum(nn.Module):
    """Magnitudes of a Fourier transform, convolved along time and frequency."""

    window: torch.Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        inputs = [1, *[channels] * 4]
        kernels, strides = [(3, 9), (3, 9), (3, 9), (3, 9), (3, 3)], [1, 2, 2, 2, 1]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(wide, channels, kernel, (1, stride), padding=(1, kernel[1] // 2)))
            for wide, kernel, stride in zip(inputs, kernels, strides, strict=True)
        )
        self.last = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, wave: torch.Tensor) -> Judged:
        """`[batch, samples]`."""
        spectrum = torch.stft(wave, self.size, self.size // 8, window=self.window, return_complex=True)
        magnitude = torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt()
        return _judged(magnitude.transpose(1, 2)[:, None], self.convs, self.last)


def _judged(x: torch.Tensor, convs: nn.ModuleList, last: nn.Module) -> Judged:
    features = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        features.append(x)
    return last(x).flatten(1), features


class Discriminators(nn.Module):
    """All judges of a waveform; each has its own weights."""

    def __init__(self, shape: DiscriminatorShape) -> None:
        super().__init__()
        by_period = [ByPeriod(period, shape.period_channels) for period in shape.periods]
        self.judges = nn.ModuleList([*by_period, *(BySpectrum(n, shape.spectral_channels) for n in shape.windows)])

    def forward(self, wave: torch.Tensor) -> list[Judged]:
        """`[batch, samples]` -> of each judge, scores `[batch, patches]` and features."""
        return [judge(wave) for judge in self.judges]

    def loss(self, real: torch.Tensor, made: torch.Tensor, weights: AdversarialWeights) -> torch.Tensor:
        """Of the judges, for waves `[batch, samples]`; the maker of `made` learns nothing from it."""
        total = real.new_zeros(())
        for (right, _), (wrong, _) in zip(self(real), self(made.detach()), strict=True):
            total = total + (1 - right).square().mean() + wrong.square().mean()
            total = total + weights.relativistic * _relativistic(right, wrong)
        return total

    def makers_loss(
        self, real: torch.Tensor, made: torch.Tensor, weights: AdversarialWeights
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the maker of `made` is told: to be taken for real, and to have the features of `real`. The judges learn
        nothing from it."""
        self.requires_grad_(False)
        with torch.no_grad():
            judged = self(real)
        fooled = features = real.new_zeros(())
        for (right, expected), (wrong, found) in zip(judged, self(made), strict=True):
            fooled = fooled + (1 - wrong).square().mean() + weights.relativistic * _relativistic(wrong, right)
            for one, other in zip(expected, found, strict=True):
                features = features + (one - other).abs().mean()
        self.requires_grad_(True)
        return fooled, features


def _relativistic(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """How far `above` stays behind its median distance to `below`, at most `RELATIVE_LIMIT`."""
    difference = above - below
    median = difference.median()
    behind = (difference - median).square()[difference < median]
    if not len(behind):
        return behind.sum()
    return RELATIVE_LIMIT - F.relu(RELATIVE_LIMIT - behind.mean())
