"""A speech decoder that regresses mel frames from units: small, trained in minutes on a CPU.

Deduplicated units and a speaker come in. ConvNeXt blocks at the rate of units give each unit a duration; the
units are repeated accordingly, spread over the frames of 100 Hz, and refined by more blocks into log-mel;
Griffin-Lim makes the waveform. Regression averages over what the units leave open (intonation, fine structure):
the speech is intelligible and dull. A generative decoder behind the same protocol does better, at more cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import nn

from spiritlm.audio.mel import MELS, SAMPLE_RATE
from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model
from spiritlm.synthesis.durations import LONGEST
from spiritlm.synthesis.griffin_lim import griffin_lim
from spiritlm.synthesis.protocol import SpeechStream, check_voice, checked_durations, checked_units, place_of
from spiritlm.tokens.streams import Prosody


class ModelShape(Recipe):
    """Size of the network."""

    width: PositiveInt = 192
    unit_blocks: int = 3
    """ConvNeXt blocks at the rate of units."""
    frame_blocks: int = 3
    """ConvNeXt blocks at the rate of mel frames."""


class RegressionConfig(Recipe):
    """What `config.json` of a decoder holds."""

    type: Literal["mel-regression"] = "mel-regression"
    vocabulary_size: int
    speakers: tuple[str, ...]
    frames_per_unit: int
    """Mel frames of one unit of time: 4 for units at 25 Hz."""
    shape: ModelShape = ModelShape()


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise network, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.project = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.2))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`x` `[batch, time, width]`, `mask` `[batch, time, 1]`: 0 where there is only padding."""
        h = self.depthwise((x * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.project(F.gelu(self.expand(self.norm(h))))


class UnitToMel(nn.Module):
    """Units and speakers -> durations and standardised log-mel. Padding changes no frame."""

    mel_mean: torch.Tensor
    mel_deviation: torch.Tensor

    def __init__(self, config: RegressionConfig, mel_mean: float = 0.0, mel_deviation: float = 1.0) -> None:
        """`mel_mean`, `mel_deviation`: of the training log-mels; the network predicts `(mel - mean) / deviation`."""
        super().__init__()
        shape = config.shape
        self.unit = nn.Embedding(config.vocabulary_size, shape.width)
        self.speaker = nn.Embedding(len(config.speakers), shape.width)
        self.unit_blocks = nn.ModuleList(ConvNeXtBlock(shape.width) for _ in range(shape.unit_blocks))
        self.duration = nn.Sequential(nn.LayerNorm(shape.width), nn.Linear(shape.width, 1))
        self.phase = nn.Parameter(0.1 * torch.randn(config.frames_per_unit, shape.width))
        self.frame_blocks = nn.ModuleList(ConvNeXtBlock(shape.width) for _ in range(shape.frame_blocks))
        self.mel = nn.Sequential(nn.LayerNorm(shape.width), nn.Linear(shape.width, MELS))
        self.register_buffer("mel_mean", torch.tensor(mel_mean))
        self.register_buffer("mel_deviation", torch.tensor(mel_deviation))

    def encode(self, units: torch.Tensor, speakers: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Units int64 `[batch, units]`, speakers int64 `[batch]`, mask `[batch, units]` -> `[batch, units, width]`."""
        x = self.unit(units) + self.speaker(speakers)[:, None]
        for block in self.unit_blocks:
            x = block(x, mask[..., None])
        return x

    def log_durations(self, encoded: torch.Tensor) -> torch.Tensor:
        """Natural logarithm of how many units of time each lasts, `[batch, units]`."""
        return self.duration(encoded).squeeze(-1)

    def decode(self, encoded: torch.Tensor, durations: torch.Tensor) -> torch.Tensor:
        """Durations int64 `[batch, units]`, 0 for padding -> standardised log-mel `[batch, frames, 80]`.

        A row has `frames_per_unit * sum(durations)` frames, then padding up to the longest.
        """
        ends = durations.cumsum(dim=1)  # [batch, units]
        times = torch.arange(int(ends[:, -1].max()), device=ends.device).expand(len(ends), -1).contiguous()
        source = torch.searchsorted(ends, times, right=True).clamp(max=ends.shape[1] - 1)  # [batch, time]
        x = encoded.gather(1, source[..., None].expand(-1, -1, encoded.shape[-1]))
        x = (x[:, :, None] + self.phase).flatten(1, 2)  # [batch, frame, width]
        mask = (times < ends[:, -1:]).repeat_interleave(len(self.phase), dim=1)[..., None]
        for block in self.frame_blocks:
            x = block(x, mask)
        return self.mel(x)

    def standardise(self, mel: torch.Tensor) -> torch.Tensor:
        return (mel - self.mel_mean) / self.mel_deviation

    def restore(self, standardised: torch.Tensor) -> torch.Tensor:
        return standardised * self.mel_deviation + self.mel_mean


def regression_losses(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`loss`, and its parts: `mel`, mean distance of standardised log-mel, and `duration`, mean square of its log.

    `model`: a `UnitToMel`. `batch`: `units` and `durations` int64 `[batch, units]` (duration 0 is padding),
    `speakers` int64 `[batch]`, `mel` log-mel `[batch, frames, 80]`, as many frames as the longest row has.
    """
    assert isinstance(model, UnitToMel)
    durations = batch["durations"]
    present = durations > 0
    encoded = model.encode(batch["units"], batch["speakers"], present)
    errors = (model.log_durations(encoded) - durations.clamp(min=1).log()).square()
    duration = errors[present].mean()
    predicted = model.decode(encoded, durations)
    frames = len(model.phase) * durations.sum(dim=1, keepdim=True)
    inside = torch.arange(predicted.shape[1], device=frames.device) < frames  # [batch, frame]
    mel = (predicted - model.standardise(batch["mel"])).abs()[inside].mean()
    return {"loss": mel + 0.1 * duration, "mel": mel, "duration": duration}


class RegressionDecoder:
    """A `MelDecoder` (see `spiritlm/synthesis/protocol.py`)."""

    def __init__(self, model: UnitToMel, config: RegressionConfig) -> None:
        self.model, self.config = model.eval(), config
        self.sample_rate = SAMPLE_RATE
        self.vocabulary_size = config.vocabulary_size
        self.speakers, self.deduplicated = config.speakers, True
        self.styles: tuple[str, ...] = ()
        self.expressive = False

    def decode(
        self,
        units: np.ndarray,
        speaker: str | None = None,
        style: str | None = None,
        prosody: Prosody | None = None,
        durations: np.ndarray | None = None,
    ) -> np.ndarray:
        """See `SpeechDecoder.decode`."""
        check_voice(self, speaker, style)
        return self.speak(self.mel(units, speaker, durations)).cpu().numpy()

    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel `[frames, 80]` -> float32 `[samples]`."""
        return griffin_lim(mel).clamp(-1, 1)

    @torch.inference_mode()
    def mel(self, units: np.ndarray, speaker: str | None = None, durations: np.ndarray | None = None) -> torch.Tensor:
        """Log-mel float32 `[frames, 80]` at 100 Hz of deduplicated units int `[n]`.

        `durations`, int `[n]` of at least 1, replace the predicted ones. Errors as in `decode`.
        """
        device = self.model.phase.device
        ids = torch.as_tensor(checked_units(units, self.vocabulary_size), device=device)[None]
        voice = torch.tensor([place_of(speaker, self.speakers, "speaker")], device=device)
        encoded = self.model.encode(ids, voice, torch.ones_like(ids))
        if durations is None:
            lengths = self.model.log_durations(encoded).exp().round().clamp(1, LONGEST).long()
        else:
            lengths = torch.from_numpy(checked_durations(durations, ids.shape[1])).to(device)[None]
        return self.model.restore(self.model.decode(encoded, lengths)[0])

    def stream(self, speaker: str | None = None, style: str | None = None) -> SpeechStream:
        """See `SpeechDecoder.stream`; raises `InputError`, always."""
        raise InputError("a mel-regression voice does not stream: Griffin-Lim hears the whole utterance")

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        save_model(folder, self.config.model_dump(mode="json"), self.model.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path) -> RegressionDecoder:
        """Raises `InputError` where `folder` holds no decoder of this kind, or files that do not fit together."""
        config = read_config(folder, RegressionConfig)
        model = load_weights(UnitToMel(config), read_tensors(folder / MODEL_FILE), folder / MODEL_FILE)
        return cls(model, config)
