"""The unit HiFi-GAN: units, and with them pitch, style and speaker, straight to a waveform (Spirit LM, section 3.1).

All that is said of a unit is embedded, put side by side and up-sampled to samples. Base: units, a speaker and the style
of the utterance. Expressive: units with pitch and style units of their own, and a speaker. State names are those of the
published `generator.pt`; weight norm may be named either way.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from spiritlm.config import Recipe
from spiritlm.synthesis.convolution import ResidualStages, halving, normed_conv, residual_reach
from spiritlm.synthesis.durations import DurationPredictor

SLOPE = 0.1
"""Of the leaky ReLU."""


class UnitHifiganShape(Recipe):
    """Size and kind of the network; 0 of something: it hears none. Sizes given here are the published ones."""

    units: PositiveInt = 501
    pitch_units: NonNegativeInt = 0
    style_units: NonNegativeInt = 0
    """Of one second each."""
    speakers: NonNegativeInt = 4
    styles: NonNegativeInt = 0
    """Of an utterance."""
    embedding: PositiveInt = 128
    """Of each of them."""
    channels: PositiveInt = 512
    """After the first convolution; halved at every up-sampling."""
    up_rates: tuple[PositiveInt, ...] = (5, 4, 4, 4, 2)
    up_kernels: tuple[PositiveInt, ...] = (11, 8, 8, 8, 4)
    kernels: tuple[PositiveInt, ...] = (3, 7, 11)
    dilations: tuple[tuple[PositiveInt, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    sample_rate: PositiveInt = 16_000
    pitch_hop: PositiveInt = 1280
    """Samples of a pitch unit."""
    style_hop: PositiveInt = 16_000
    duration_width: NonNegativeInt = 128
    """Of the predictor of durations; 0: there is none."""
    duration_kernel: PositiveInt = 3
    duration_dropout: float = 0.5

    @model_validator(mode="after")
    def _fits_together(self) -> UnitHifiganShape:
        if len(self.up_rates) != len(self.up_kernels) or len(self.kernels) != len(self.dilations):
            raise ValueError("up_rates and up_kernels, kernels and dilations: expected as many of each")
        if any(
            kernel < rate or (kernel - rate) % 2 for rate, kernel in zip(self.up_rates, self.up_kernels, strict=True)
        ):
            raise ValueError("up_kernels: expected at least up_rates, and an even number more")
        if self.pitch_hop % self.hop or self.style_hop % self.hop:
            raise ValueError(f"pitch_hop and style_hop: expected multiples of a unit's {self.hop} samples")
        return self

    @property
    def hop(self) -> int:
        """Samples of a unit."""
        return math.prod(self.up_rates)

    @property
    def reach(self) -> int:
        """Units on either side that a sample hears; at most."""
        reach = 3
        for rate, kernel in reversed(list(zip(self.up_rates, self.up_kernels, strict=True))):
            reach += max(map(residual_reach, self.kernels, self.dilations))
            reach = -(-(reach + kernel) // rate)
        return reach + 3


class UnitHifigan(nn.Module):
    """See the module's docstring."""

    def __init__(self, shape: UnitHifiganShape) -> None:
        super().__init__()
        self.shape = shape

        def embedding(number: int) -> nn.Embedding | None:
            return nn.Embedding(number, shape.embedding) if number else None

        self.dict = nn.Embedding(shape.units, shape.embedding)
        self.f0_dict, self.style_dict = embedding(shape.pitch_units), embedding(shape.style_units)
        self.spkr, self.style = embedding(shape.speakers), embedding(shape.styles)
        heard = [shape.units, shape.pitch_units, shape.style_units, shape.speakers, shape.styles]
        widths = halving(shape.channels, len(shape.up_rates))
        self.conv_pre = normed_conv(shape.embedding * sum(map(bool, heard)), shape.channels, 7)
        self.ups = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(wide, width, kernel, rate, padding=(kernel - rate) // 2))
            for wide, width, kernel, rate in zip(widths, widths[1:], shape.up_kernels, shape.up_rates, strict=False)
        )
        self.resblocks = ResidualStages(
            widths[1:], shape.kernels, shape.dilations, False, lambda channels: nn.LeakyReLU(SLOPE)
        )
        self.conv_post = normed_conv(widths[-1], 1, 7)
        self.dur_predictor = (
            DurationPredictor(
                shape.embedding, shape.duration_width, shape.duration_kernel, shape.duration_dropout, causal=False
            )
            if shape.duration_width
            else None
        )

    def forward(
        self,
        units: torch.Tensor,
        pitch: torch.Tensor | None = None,
        style_units: torch.Tensor | None = None,
        speakers: torch.Tensor | None = None,
        styles: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`units`, `pitch` and `style_units` int64 `[batch, units]`, of every unit of time; `speakers` and `styles`
        int64 `[batch]`; those that the shape has -> samples `[batch, hop * units]` in [-1, 1]."""
        time = units.shape[1]
        parts = [self.dict(units)]
        parts += [
            table(told) for table, told in ((self.f0_dict, pitch), (self.style_dict, style_units)) if table is not None
        ]
        for table, told in ((self.spkr, speakers), (self.style, styles)):
            if table is not None:
                parts.append(table(told)[:, None].expand(-1, time, -1))
        x = self.conv_pre(torch.cat(parts, dim=-1).transpose(1, 2))
        for stage, up in enumerate(self.ups):
            x = self.resblocks.mean(stage, up(F.leaky_relu(x, SLOPE)))
        return torch.tanh(self.conv_post(F.leaky_relu(x))).squeeze(1)  # the last one with the default slope

    def durations(self, units: torch.Tensor) -> torch.Tensor:
        """How long each of deduplicated units `[batch, units]` lasts, int64, at least 1."""
        assert self.dur_predictor is not None
        return self.dur_predictor.durations(self.dict(units))


def spread(values: torch.Tensor, times: int, units: int) -> torch.Tensor:
    """`values` `[batch, n]` of a stream whose units last `times` units of time, for each of `units`: the last one goes
    on where there are too few."""
    repeated = values.repeat_interleave(times, dim=1)[:, :units]
    return F.pad(repeated[:, None].float(), (0, units - repeated.shape[1]), mode="replicate")[:, 0].to(values.dtype)
