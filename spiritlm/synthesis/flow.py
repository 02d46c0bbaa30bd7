"""Units become mel frames by conditional flow matching (Lipman et al. 2023, with the optimal-transport path).

Units and a voice come in, and where there is one a prompt: earlier units with their mel. A transformer reads the units,
their vectors are brought to the rate of mel frames, and a network estimates the velocity that carries noise to mel in
a few Euler steps; with classifier-free guidance it is asked twice, once knowing nothing. Three layouts, each with the
state names of its published `flow.pt`: GLM-4-Voice's decoder, CosyVoice 1, and the causal one of CosyVoice 2, which
alone streams and is what our recipes train, with blocks, bounded left context and noise keyed by position.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import nn

from spiritlm.config import Recipe
from spiritlm.run.memory import Memories
from spiritlm.synthesis.conformer import EncoderShape, UnitEncoder
from spiritlm.synthesis.estimator import Estimator, EstimatorShape
from spiritlm.synthesis.lengths import EDGE, LengthRegulator, linear, linear_by_parts, mel_frames, nearest

Layout = Literal["glm", "cosyvoice1", "causal"]


class FlowConfig(Recipe):
    """Size and kind of a flow."""

    layout: Layout = "causal"
    """glm: nearest interpolation, cosine times in training, prompts up to 0.8; cosyvoice1: linear interpolation by
    parts; causal: whole mel frames a unit, `encoder.up_stride` of them."""
    vocabulary_size: PositiveInt
    unit_rate: PositiveFloat
    """Hz."""
    mels: PositiveInt = 80
    frame_rate: PositiveFloat
    """Mel frames per second, Hz."""
    input_size: PositiveInt = 512
    """Of a unit's embedding."""
    speaker_size: PositiveInt = 192
    """Of a voice's vector."""
    encoder: EncoderShape
    regulator_layers: int = 4
    """Of the convolutions after interpolation; none in the causal layout."""
    estimator: EstimatorShape
    guidance: NonNegativeFloat = 0.7
    """v = (1 + guidance) v(known) - guidance v(unknown)."""
    sigma_min: PositiveFloat = 1e-6

    @model_validator(mode="after")
    def _fits_together(self) -> FlowConfig:
        causal = self.layout == "causal"
        if causal != self.estimator.causal:
            raise ValueError(f"layout = {self.layout}: expected estimator.causal = {str(causal).lower()}")
        if causal and self.frame_rate != self.unit_rate * self.encoder.up_stride:
            raise ValueError(f"frame_rate = {self.frame_rate}: expected unit_rate * encoder.up_stride")
        block = self.encoder.block and self.encoder.block * self.encoder.up_stride
        if causal and self.estimator.block != block:
            raise ValueError(f"estimator.block = {self.estimator.block}: expected {block} mel frames, as encoder.block")
        return self

    def frames(self, units: int) -> int:
        """Mel frames of so many units."""
        if self.layout == "causal":
            return units * self.encoder.up_stride
        return mel_frames(units, self.unit_rate, self.frame_rate)


class VelocityField(nn.Module):
    """The estimator, under the name that the published state gives it."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.estimator = Estimator(4 * config.mels, config.mels, config.estimator)


class Flow(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.input_embedding = nn.Embedding(config.vocabulary_size, config.input_size)
        self.spk_embed_affine_layer = nn.Linear(config.speaker_size, config.mels)
        self.encoder = UnitEncoder(config.input_size, config.encoder)
        self.encoder_proj = nn.Linear(config.encoder.width, config.mels)
        if config.layout != "causal":
            self.length_regulator = LengthRegulator(config.mels, config.regulator_layers)
        self.decoder = VelocityField(config)

    def voice(self, speakers: torch.Tensor) -> torch.Tensor:
        """Vectors of voices float `[batch, speaker_size]` -> `[batch, mels]`; only their directions matter."""
        return self.spk_embed_affine_layer(F.normalize(speakers, dim=1))

    def embed(self, units: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Units int64 `[batch, units]` -> `[batch, units, input_size]`, zeros behind the end of a row."""
        x = self.input_embedding(units)
        if lengths is None:
            return x
        return x * (torch.arange(units.shape[1], device=x.device) < lengths[:, None])[..., None]

    def condition(
        self,
        units: torch.Tensor,
        prompt_units: int = 0,
        prompt_frames: int = 0,
        blocks: bool = True,
    ) -> torch.Tensor:
        """What the flow is told of one utterance: units int64 `[1, units]`, the first `prompt_units` of which have
        `prompt_frames` mel frames already, -> `[1, frames, mels]`."""
        config = self.config
        h = self.encoder_proj(self.encoder(self.embed(units), blocks=blocks))
        if config.layout == "causal":
            return h
        if config.layout == "glm":
            stretched = nearest(h, config.frames(units.shape[1]))
        else:
            new, edge = config.frames(units.shape[1] - prompt_units), config.frames(EDGE)
            stretched = linear_by_parts(h[:, :prompt_units], h[:, prompt_units:], prompt_frames, new, edge)
        return self.length_regulator(stretched)

    def batch_condition(
        self, units: torch.Tensor, lengths: torch.Tensor, frames: torch.Tensor, blocks: bool = True
    ) -> torch.Tensor:
        """As `condition` in training, without prompts: units int64 `[batch, units]`, of which `lengths` are true, and
        the mel frames of each row -> `[batch, frames, mels]`.

        Interpolating layouts stretch a whole batch by one ratio, as published."""
        h = self.encoder_proj(self.encoder(self.embed(units, lengths), lengths, blocks))
        if self.config.layout == "causal":
            return h
        longest = int(frames.max())
        stretched = nearest(h, longest) if self.config.layout == "glm" else linear(h, longest)
        return self.length_regulator(stretched) * frame_mask(frames)[..., None]

    def matching_loss(
        self,
        mel: torch.Tensor,
        frames: torch.Tensor,
        known: Known,
        moments: torch.Tensor,
        noise: torch.Tensor,
        blocks: bool = True,
    ) -> torch.Tensor:
        """Mean squared error of the velocity on the straight way from `noise` to `mel`, both `[batch, mels, frames]`,
        at `moments` `[batch]` of the flow, over the `frames` int `[batch]` that are true."""
        mask = frame_mask(frames)[:, None].to(mel.dtype)
        t, rest = moments[:, None, None], 1 - self.config.sigma_min
        between, target = (1 - rest * t) * noise + t * mel, mel - rest * noise
        found = self.decoder.estimator(known.stack(between), moments, mask, blocks)
        return ((found - target) * mask).square().sum() / (mask.sum() * mel.shape[1])

    def velocity(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        known: Known,
        blocks: bool = True,
        memories: Memories | None = None,
    ) -> torch.Tensor:
        """Guided: `x` `[1, mels, frames]` at `time` `[1]` -> `[1, mels, frames]`; `blocks`, `memories`: see
        `Estimator`."""
        both = torch.cat([known.stack(x), known.unknown().stack(x)])
        told, untold = self.decoder.estimator(both, time.expand(2), blocks=blocks, memories=memories).split(1)
        return (1 + self.config.guidance) * told - self.config.guidance * untold

    @torch.inference_mode()
    def solve(self, noise: torch.Tensor, known: Known, steps: int = 10, blocks: bool = True) -> torch.Tensor:
        """Noise `[1, mels, frames]` -> mel, by Euler steps whose times are those of `times`."""
        x, moments = noise, times(steps, noise.device)
        for now, then in pairwise(moments):
            x = x + (then - now) * self.velocity(x, now[None], known, blocks)
        return x


class Known:
    """What the estimator is told beside the noisy mel: float `[batch, mels, frames]`, of voices `[batch, mels]`."""

    def __init__(self, condition: torch.Tensor, voice: torch.Tensor, prompt: torch.Tensor) -> None:
        """`condition`: of the units, stretched; `prompt`: the mel that is known, zeros elsewhere."""
        self.condition, self.voice, self.prompt = condition, voice, prompt

    def stack(self, x: torch.Tensor) -> torch.Tensor:
        """`x` `[batch, mels, frames]` and all that is known, `[batch, 4 * mels, frames]`."""
        voice = self.voice[:, :, None].expand(-1, -1, x.shape[2])
        return torch.cat([x, self.condition, voice, self.prompt], dim=1)

    def unknown(self) -> Known:
        return Known(*(torch.zeros_like(told) for told in (self.condition, self.voice, self.prompt)))

    def where(self, kept: torch.Tensor) -> Known:
        """As it is in the rows where `kept`, bool `[batch]`, is true; unknown in the others."""
        rows = kept[:, None]
        return Known(self.condition * rows[..., None], self.voice * rows, self.prompt * rows[..., None])


def frame_mask(frames: torch.Tensor) -> torch.Tensor:
    """bool `[batch, longest]`, true for the `frames` int `[batch]` of each row."""
    return torch.arange(int(frames.max()), device=frames.device) < frames[:, None]


def warped(moments: torch.Tensor) -> torch.Tensor:
    """1 - cos(pi t / 2): more of them early."""
    return 1 - torch.cos(0.5 * math.pi * moments)


def times(steps: int, device: torch.device | None = None) -> torch.Tensor:
    """`steps + 1` moments of the flow from 0 to 1, the first ones close together."""
    return warped(torch.linspace(0, 1, steps + 1, device=device))
