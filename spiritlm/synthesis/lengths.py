"""How the vectors of units become as many as mel frames, where the two rates share no whole ratio.

The published decoders of CosyVoice 1 and GLM-4-Voice stretch by interpolation and refine by convolutions whose group
norm hears the whole utterance; neither can stream. The causal layout (`spiritlm/synthesis/flow.py`) needs none of it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

EDGE, LONG = 20, 40
"""CosyVoice 1: of more than `LONG` new units, the first and the last `EDGE` are stretched apart from the rest, so that
a growing sequence keeps its head."""


def mel_frames(units: int, unit_rate: float, frame_rate: float) -> int:
    """Whole mel frames of so many units, in float32 as the published code counts them (the same as exactly counted for
    1 to 600 units of 12.5 Hz and frames of 22050 / 256 Hz)."""
    return int(np.float32(units) / np.float32(unit_rate) * np.float32(frame_rate))


class LengthRegulator(nn.Module):
    """Interpolation, then convolutions, each with a group norm and Mish but the last."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        refine = [
            layer
            for _ in range(layers)
            for layer in (nn.Conv1d(channels, channels, 3, padding=1), nn.GroupNorm(1, channels), nn.Mish())
        ]
        self.model = nn.Sequential(*refine, nn.Conv1d(channels, channels, 1))

    def forward(self, stretched: torch.Tensor) -> torch.Tensor:
        """`[batch, frames, channels]` both ways."""
        return self.model(stretched.transpose(1, 2)).transpose(1, 2)


def nearest(x: torch.Tensor, frames: int) -> torch.Tensor:
    """`[batch, units, channels]` -> `[batch, frames, channels]`, each frame that of the nearest unit (GLM-4-Voice)."""
    return F.interpolate(x.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)


def linear(x: torch.Tensor, frames: int) -> torch.Tensor:
    """`[batch, units, channels]` -> `[batch, frames, channels]`, between the two nearest units (CosyVoice 1)."""
    return F.interpolate(x.transpose(1, 2), size=frames, mode="linear").transpose(1, 2)


def linear_by_parts(
    prompt: torch.Tensor, new: torch.Tensor, prompt_frames: int, frames: int, edge: int
) -> torch.Tensor:
    """CosyVoice 1: the prompt's vectors and the new ones stretched apart to `prompt_frames` and `frames`; of a long
    sequence, head and tail to `edge` frames each."""
    parts = [linear(prompt, prompt_frames)] if prompt.shape[1] else []
    if new.shape[1] > LONG:
        parts += [
            linear(new[:, :EDGE], edge),
            linear(new[:, EDGE:-EDGE], frames - 2 * edge),
            linear(new[:, -EDGE:], edge),
        ]
    else:
        parts.append(linear(new, frames))
    return torch.cat(parts, dim=1)
