"""The unit HiFi-GAN: units, and with them pitch, style and speaker, straight to a waveform (Spirit LM, section 3.1).

All that is said of a unit is embedded, put side by side and up-sampled to samples. Base: units, a speaker and the style
of the utterance. Expressive: units with pitch and style units of their own, and a speaker. State names are those of the
published `generator.pt`; weight norm may be named either way. Not published: a source of harmonics at a predicted F0
and layers at the rate of units, which our small recipes train with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from spiritlm.config import Recipe
from spiritlm.synthesis.convolution import ResidualBlock, ResidualStages, halving, normed_conv, residual_reach
from spiritlm.synthesis.durations import DurationPredictor
from spiritlm.synthesis.harmonics import COARSE, Amplitudes, Harmonics, SourceShape

SLOPE = 0.1
"""Of the leaky ReLU."""
CONTEXT_KERNEL = 3
F0_PLACES = 4
"""In a unit, where F0 is predicted."""
F0_SCALE = 100.0
"""Hz, where its network says 1."""
F0_REACH = 3
"""Units on either side that the predictor of F0 hears."""


class HifiganSizes(Recipe):
    """Of the network; what is given here is the published one."""

    sample_rate: PositiveInt = 16_000
    embedding: PositiveInt = 128
    """Of units, and of each thing that is said of them."""
    channels: PositiveInt = 512
    """After the first convolution; halved at every up-sampling."""
    up_rates: tuple[PositiveInt, ...] = (5, 4, 4, 4, 2)
    up_kernels: tuple[PositiveInt, ...] = (11, 8, 8, 8, 4)
    kernels: tuple[PositiveInt, ...] = (3, 7, 11)
    """Of the residual blocks after each up-sampling, which run beside each other."""
    dilations: tuple[tuple[PositiveInt, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    context: tuple[PositiveInt, ...] = ()
    """Dilations of a residual block of `CONTEXT_KERNEL` at the rate of units, before the first up-sampling; none, as
    published."""
    harmonics: NonNegativeInt = 0
    """Of a source, the fundamental counted, at an F0 that is predicted from all that is said of the units: fed into
    every stage, and each kept apart (see `harmonics.py`); 0, as published: none."""
    f0_width: PositiveInt = 64
    """Of the predictor of F0."""
    duration_width: NonNegativeInt = 128
    """Of the predictor of durations; 0: there is none."""
    duration_kernel: PositiveInt = 3
    duration_dropout: float = Field(0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _sizes_fit(self) -> HifiganSizes:
        if len(self.up_rates) != len(self.up_kernels) or len(self.kernels) != len(self.dilations):
            raise ValueError("up_rates and up_kernels, kernels and dilations: expected as many of each")
        if not self.up_rates or not self.kernels:
            raise ValueError("up_rates, kernels: expected at least one")
        if any(kernel % 2 == 0 for kernel in (*self.kernels, self.duration_kernel)):
            raise ValueError("kernels, duration_kernel: expected odd numbers")
        for rate, kernel in zip(self.up_rates, self.up_kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError("up_kernels: expected at least up_rates, and an even number more")
        if self.harmonics and any(self.after(stage) % 2 for stage in range(1, len(self.up_rates))):
            raise ValueError("harmonics: expected an even number of samples in every stage's frame but the last one's")
        if self.harmonics and self.hop % F0_PLACES:
            raise ValueError(f"harmonics: expected a unit of a multiple of {F0_PLACES} samples")
        if self.channels % 2 ** len(self.up_rates):
            raise ValueError(f"channels = {self.channels}: expected a multiple of 2 for every up-sampling")
        return self

    @property
    def hop(self) -> int:
        """Samples of a unit."""
        return math.prod(self.up_rates)

    def after(self, stage: int) -> int:
        """Samples of a frame after so many up-samplings."""
        return math.prod(self.up_rates[stage:])

    @property
    def reach(self) -> int:
        """Units on either side that some sample of a unit hears; their F0 aside."""
        reach = 3
        for rate, kernel in reversed(list(zip(self.up_rates, self.up_kernels, strict=True))):
            reach += max(map(residual_reach, self.kernels, self.dilations)) + (self.harmonics > 0)
            reach = (reach + (kernel + rate) // 2 - 1) // rate
        return reach + 3 + residual_reach(CONTEXT_KERNEL, self.context)


class UnitHifiganShape(HifiganSizes):
    """Sizes and what is heard; 0 of something: none of it. Numbers given here are the published ones."""

    units: PositiveInt = 501
    pitch_units: NonNegativeInt = 0
    style_units: NonNegativeInt = 0
    """Of one second each, as published."""
    speakers: NonNegativeInt = 4
    styles: NonNegativeInt = 0
    """Of an utterance."""


class UnitF0(nn.Module):
    """Fundamental frequency, Hz, at `F0_PLACES` of every unit, 0 where it is unvoiced."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for heard in (inputs, *[width] * (F0_REACH - 1)):
            layers += [nn.Conv1d(heard, width, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.layers, self.last = nn.Sequential(*layers), nn.Conv1d(width, F0_PLACES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, inputs, units]` -> `[batch, F0_PLACES * units]`, not negative."""
        return F0_SCALE * self.last(self.layers(x)).transpose(1, 2).flatten(1).abs()


class UnitHifigan(nn.Module):
    """See the module's docstring."""

    def __init__(self, shape: UnitHifiganShape) -> None:
        super().__init__()
        self.shape = shape

        def embedding(number: int) -> nn.Embedding | None:
            return nn.Embedding(number, shape.embedding) if number else None

        def activation(channels: int) -> nn.Module:
            return nn.LeakyReLU(SLOPE)

        self.dict = nn.Embedding(shape.units, shape.embedding)
        self.f0_dict, self.style_dict = embedding(shape.pitch_units), embedding(shape.style_units)
        self.spkr, self.style = embedding(shape.speakers), embedding(shape.styles)
        heard = [shape.units, shape.pitch_units, shape.style_units, shape.speakers, shape.styles]
        widths = halving(shape.channels, len(shape.up_rates))
        inputs = shape.embedding * sum(map(bool, heard))
        self.conv_pre = normed_conv(inputs, shape.channels, 7)
        self.context = ResidualBlock(shape.channels, CONTEXT_KERNEL, shape.context, False, activation)
        self.ups = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(wide, width, kernel, rate, padding=(kernel - rate) // 2))
            for wide, width, kernel, rate in zip(widths, widths[1:], shape.up_kernels, shape.up_rates, strict=False)
        )
        self.resblocks = ResidualStages(widths[1:], shape.kernels, shape.dilations, False, activation)
        self.conv_post = normed_conv(widths[-1], 1, 7)
        if shape.harmonics:
            source = SourceShape(sample_rate=shape.sample_rate, harmonics=shape.harmonics - 1, bank=shape.harmonics)
            self.f0_predictor = UnitF0(inputs, shape.f0_width)
            self.m_source = Harmonics(source, shape.hop // F0_PLACES)
            self.source_downs = nn.ModuleList(
                nn.Conv1d(1, width, 2 * rate, rate, padding=rate // 2) if rate > 1 else nn.Conv1d(1, width, 1)
                for width, rate in zip(widths[1:], map(shape.after, range(1, len(widths))), strict=True)
            )
            self.loud_stage = next(i for i in range(len(self.ups)) if shape.after(i + 1) <= COARSE)
            self.amplitudes = Amplitudes(widths[self.loud_stage + 1], shape.harmonics)
        self.dur_predictor = (
            DurationPredictor(
                shape.embedding, shape.duration_width, shape.duration_kernel, shape.duration_dropout, causal=False
            )
            if shape.duration_width
            else None
        )

    def embed(
        self,
        units: torch.Tensor,
        pitch: torch.Tensor | None = None,
        style_units: torch.Tensor | None = None,
        speakers: torch.Tensor | None = None,
        styles: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`units`, `pitch` and `style_units` int64 `[batch, units]`, of every unit of time; `speakers` and `styles`
        int64 `[batch]`; those that the shape has -> `[batch, inputs, units]`."""
        parts = [self.dict(units)]
        parts += [
            table(told) for table, told in ((self.f0_dict, pitch), (self.style_dict, style_units)) if table is not None
        ]
        for table, told in ((self.spkr, speakers), (self.style, styles)):
            if table is not None:
                parts.append(table(told)[:, None].expand(-1, units.shape[1], -1))
        return torch.cat(parts, dim=-1).transpose(1, 2)

    def forward(self, embedded: torch.Tensor, source: torch.Tensor | None = None) -> torch.Tensor:
        """`embedded` `[batch, inputs, units]`, and `source` `[batch, 1 + harmonics, hop * units]` where there are
        harmonics -> samples `[batch, hop * units]` in [-1, 1]."""
        x, voiced = self.context(self.conv_pre(embedded)), None
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            if source is not None:
                x = x + self.source_downs[stage](source[:, :1])
            x = self.resblocks.mean(stage, x)
            if source is not None and stage == self.loud_stage:
                voiced = self.amplitudes(x, source[:, 1:])
        wave = torch.tanh(self.conv_post(F.leaky_relu(x))).squeeze(1).float()  # the last one with the default slope
        return wave if voiced is None else (wave + voiced).clamp(-1, 1)

    def durations(self, units: torch.Tensor) -> torch.Tensor:
        """How long each of deduplicated units `[batch, units]` lasts, int64, at least 1."""
        assert self.dur_predictor is not None
        return self.dur_predictor.durations(self.dict(units))
