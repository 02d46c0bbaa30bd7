"""HiFT, a vocoder: mel frames become a waveform by a source of harmonics, filtered, and an inverse Fourier transform.

The fundamental frequency is read off the mel; a source of its harmonics and noise, at the rate of samples, is fed as a
spectrum into a network that up-samples the mel; its last layer gives magnitudes and phases of 16-point frames. Layout
and state names are those of the published `hift.pt` (CosyVoice 1 and GLM-4-Voice at 22.05 kHz, CosyVoice 2 at
24 kHz).
In a `causal` network, which our small recipes train, nothing looks ahead but the Fourier transforms, by half of their
window, and the amplitudes of a bank of harmonics (see `harmonics.py`), by half of the frame that they are read off.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from spiritlm.synthesis.convolution import ResidualBlock, ResidualStages, halving, normed_conv, residual_reach
from spiritlm.synthesis.harmonics import COARSE, Amplitudes, Harmonics, SourceShape

LOUDEST_BIN = 100.0
"""Magnitudes above it are cut."""


class HiftShape(SourceShape):
    """Size and kind of the network; what is given here is the published one at 22.05 kHz."""

    mels: PositiveInt = 80
    channels: PositiveInt = 512
    """After the first convolution; halved at every up-sampling."""
    up_rates: tuple[PositiveInt, ...] = (8, 8)
    up_kernels: tuple[PositiveInt, ...] = (16, 16)
    fourier_size: PositiveInt = 16
    fourier_hop: PositiveInt = 4
    kernels: tuple[PositiveInt, ...] = (3, 7, 11)
    """Of the residual blocks after each up-sampling, which run beside each other."""
    dilations: tuple[tuple[PositiveInt, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_kernels: tuple[PositiveInt, ...] = (7, 11)
    source_dilations: tuple[tuple[PositiveInt, ...], ...] = ((1, 3, 5), (1, 3, 5))
    slope: float = 0.1
    """Of the leaky ReLU between stages."""
    limit: PositiveFloat = 0.99
    """Samples are cut to ± this."""
    f0_channels: PositiveInt = 512
    causal: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> HiftShape:
        if not len(self.up_rates) == len(self.up_kernels) == len(self.source_kernels) == len(self.source_dilations):
            raise ValueError("up_rates, up_kernels, source_kernels and source_dilations: expected as many of each")
        if len(self.kernels) != len(self.dilations) or not self.kernels or not self.up_rates:
            raise ValueError("kernels and dilations: expected as many of each, and up_rates, at least one")
        if any(kernel % 2 == 0 for kernel in (*self.kernels, *self.source_kernels)):
            raise ValueError("kernels and source_kernels: expected odd numbers")
        for rate, kernel in zip(self.up_rates, self.up_kernels, strict=True):
            if rate < 2 or kernel < rate or (not self.causal and (kernel - rate) % 2):
                raise ValueError(
                    f"up_rates and up_kernels: {rate} and {kernel}: expected rates of at least 2, and kernels as long, "
                    "by an even number where the network is not causal"
                )
        if self.bank and (self.loud_stage is None or self.loud_stage == len(self.up_rates) - 1):
            raise ValueError(f"bank: expected a stage before the last one with frames of at most {COARSE} samples")
        if self.channels % 2 ** len(self.up_rates) or self.fourier_size % (2 * self.fourier_hop):
            raise ValueError("channels: expected a multiple of 2 for every up-sampling; fourier_size, of 2 fourier_hop")
        return self

    @property
    def hop(self) -> int:
        """Samples of a mel frame."""
        return math.prod(self.up_rates) * self.fourier_hop

    @property
    def reach(self) -> int:
        """Mel frames that a sample may hear before its own and, where the network is not causal, after it; at most."""
        reach = self.fourier_size // self.fourier_hop // 2 + 3  # of the inverse transform and the last convolution
        stages = zip(self.up_rates, self.up_kernels, self.source_kernels, self.source_dilations, strict=True)
        for rate, kernel, source_kernel, source_dilations in reversed(list(stages)):
            residual = max(map(residual_reach, self.kernels, self.dilations))
            reach += residual + residual_reach(source_kernel, source_dilations) + 3
            reach = -(-(reach + kernel) // rate)
        reach += 3
        return 2 * reach if self.causal else reach

    @property
    def loud_stage(self) -> int | None:
        """The first whose frames are of at most `COARSE` samples, off which amplitudes are read."""
        lasting = [math.prod(self.up_rates[stage + 1 :]) * self.fourier_hop for stage in range(len(self.up_rates))]
        return next((stage for stage, samples in enumerate(lasting) if samples <= COARSE), None)

    @property
    def look_ahead(self) -> int:
        """Mel frames after its own that a sample may hear."""
        return 1 if self.causal else self.reach


class CausalUp(nn.ConvTranspose1d):
    """The samples of a frame hear it and those before, none after."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x)[:, :, : x.shape[2] * self.stride[0]]


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, an alpha for each channel (Ziyin et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha = self.alpha[:, None]
        return x + torch.sin(alpha * x).square() / (alpha + 1e-9)


class F0Predictor(nn.Module):
    """Fundamental frequency, Hz, of every mel frame."""

    REACH = 5
    """Frames before its own that a frame hears, twice as many in a causal one, and after it, none in a causal one."""

    def __init__(self, mels: int, channels: int, causal: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (mels, *[channels] * (self.REACH - 1)):
            layers += [normed_conv(inputs, channels, 3, causal), nn.ELU()]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """`[batch, mels, frames]` -> `[batch, frames]`, not negative."""
        return self.classifier(self.condnet(mel).transpose(1, 2)).squeeze(-1).abs()


class Hift(nn.Module):
    """See the module's docstring."""

    window: torch.Tensor

    def __init__(self, shape: HiftShape) -> None:
        super().__init__()
        self.shape = shape
        bins, stages = shape.fourier_size + 2, len(shape.up_rates)
        widths = halving(shape.channels, stages)
        self.m_source = Harmonics(shape, shape.hop)
        self.conv_pre = normed_conv(shape.mels, shape.channels, 7, shape.causal)
        self.ups = nn.ModuleList(
            weight_norm(
                CausalUp(wide, width, kernel, rate)
                if shape.causal
                else nn.ConvTranspose1d(wide, width, kernel, rate, padding=(kernel - rate) // 2)
            )
            for wide, width, kernel, rate in zip(widths, widths[1:], shape.up_kernels, shape.up_rates, strict=False)
        )
        left = list(accumulate((1, *shape.up_rates[:0:-1]), mul))[::-1]  # times that each stage's rate is exceeded
        self.source_downs = nn.ModuleList(
            nn.Conv1d(bins, width, 1) if rate == 1 else nn.Conv1d(bins, width, 2 * rate, rate, padding=rate // 2)
            for width, rate in zip(widths[1:], left, strict=True)
        )
        self.source_resblocks = nn.ModuleList(
            ResidualBlock(width, kernel, dilations, shape.causal, Snake)
            for width, kernel, dilations in zip(widths[1:], shape.source_kernels, shape.source_dilations, strict=True)
        )
        self.resblocks = ResidualStages(widths[1:], shape.kernels, shape.dilations, shape.causal, Snake)
        self.conv_post = normed_conv(widths[-1], bins, 7, shape.causal)
        self.f0_predictor = F0Predictor(shape.mels, shape.f0_channels, shape.causal)
        if shape.bank and shape.loud_stage is not None:
            self.amplitudes = Amplitudes(widths[shape.loud_stage + 1], shape.bank)
        self.register_buffer("window", torch.hann_window(shape.fourier_size), persistent=False)

    def forward(self, mel: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Log-mel `[batch, mels, frames]` and its source `[batch, 1 + bank, samples]` -> samples `[batch, samples]`."""
        shape = self.shape
        spectrum, x, voiced = self._source_spectrum(source), self.conv_pre(mel), 0.0
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, shape.slope))
            if stage == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")
            x = x + self.source_resblocks[stage](self.source_downs[stage](spectrum))
            x = self.resblocks.mean(stage, x)
            if shape.bank and stage == shape.loud_stage:
                voiced = self.amplitudes(x, source[:, 1:])
        wave = self._inverse(self.conv_post(F.leaky_relu(x)))  # here with the slope that ReLUs leak by default
        return (wave + voiced).clamp(-shape.limit, shape.limit)

    def _source_spectrum(self, source: torch.Tensor) -> torch.Tensor:
        shape = self.shape
        spectrum = torch.stft(
            source[:, 0], shape.fourier_size, shape.fourier_hop, window=self.window, return_complex=True
        )
        return torch.cat([spectrum.real, spectrum.imag], dim=1)

    def _inverse(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.shape
        bins, x = shape.fourier_size // 2 + 1, x.float()
        magnitude, phase = x[:, :bins].exp().clamp(max=LOUDEST_BIN), x[:, bins:].sin()
        wave: torch.Tensor = torch.istft(
            torch.polar(magnitude, phase), shape.fourier_size, shape.fourier_hop, window=self.window
        )
        return wave
