"""A small CTC model over log-mel that says which letter is spoken when; `synth_data/train_aligner.py` trains it.

Sound at 16 kHz comes in, log-probabilities of the blank, the space and the letters come out at 50 Hz. It is
convolutional throughout and normalises by constants: what is said in a frame depends on the half second around it
(`reach`) and on nothing else, so a long recording in overlapping windows gives what the whole gives, and letters stay
where they are spoken.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import nn

from spiritlm.alignment.words import Alphabet, Lag
from spiritlm.audio.mel import FLOOR, FRAME_RATE, MELS, log_mel
from spiritlm.config import Recipe
from spiritlm.run.device import training_device
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model

BLANK, SEPARATOR = 0, 1
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
"""Ids from 2 on; 0 is the blank, 1 the space between words."""
CHARACTERS = {letter: number for number, letter in enumerate(LETTERS, start=2)}
STACKED = 2
"""Mel frames of one output frame."""


class MelCtcShape(Recipe):
    """Size of the network."""

    width: PositiveInt = 192
    blocks: PositiveInt = 8
    reach: PositiveInt = 3
    """Output frames on either side that each block's convolution sees."""


class MelCtcConfig(Recipe):
    """What `config.json` of a model holds."""

    type: Literal["mel-ctc"] = "mel-ctc"
    shape: MelCtcShape = MelCtcShape()
    lag_start: float = 0.0
    """Seconds; see `Lag` in `spiritlm/alignment/words.py`."""
    lag_end: float = 0.0


class ConvBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise network, added to the input."""

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 2 * reach + 1, padding=reach, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.project = nn.Linear(3 * width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`x` `[batch, time, width]`, `mask` `[batch, time, 1]`: 0 where there is only padding."""
        h = self.depthwise((x * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.project(F.gelu(self.expand(self.norm(h))))


class MelCtc(nn.Module):
    """Log-mel -> logits of the blank, the space and the letters. Padding changes no frame."""

    mel_mean: torch.Tensor
    mel_deviation: torch.Tensor

    def __init__(self, shape: MelCtcShape, mel_mean: float = 0.0, mel_deviation: float = 1.0) -> None:
        """`mel_mean`, `mel_deviation`: of the training log-mels."""
        super().__init__()
        self.stack = nn.Linear(STACKED * MELS, shape.width)
        self.blocks = nn.ModuleList(ConvBlock(shape.width, shape.reach) for _ in range(shape.blocks))
        self.head = nn.Sequential(nn.LayerNorm(shape.width), nn.Linear(shape.width, len(LETTERS) + 2))
        self.register_buffer("mel_mean", torch.tensor(mel_mean))
        self.register_buffer("mel_deviation", torch.tensor(mel_deviation))

    def forward(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Log-mel `[batch, frames, 80]`, an even number of frames, and how many output frames each row has, int
        `[batch]` -> logits `[batch, frames / 2, 29]`."""
        x = self.stack(((mel - self.mel_mean) / self.mel_deviation).unflatten(1, (-1, STACKED)).flatten(2))
        mask = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x)


def ctc_losses(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`loss`: mean negative log-likelihood of a label, all ways to place the labels together.

    `model`: a `MelCtc`. `batch`: `mel` `[batch, frames, 80]`, `lengths` int64 `[batch]` in output frames, `labels`
    int64 `[batch, labels]`, `label_counts` int64 `[batch]`.
    """
    log_probs = model(batch["mel"], batch["lengths"]).float().log_softmax(dim=-1).transpose(0, 1)
    counts = batch["label_counts"]
    nll = F.ctc_loss(log_probs, batch["labels"], batch["lengths"], counts, BLANK, reduction="sum")
    return {"loss": nll / counts.sum()}


class MelCtcModel:
    """A `FrameModel` (see `spiritlm/alignment/models.py`)."""

    alphabet = Alphabet(BLANK, SEPARATOR, CHARACTERS)
    frame_rate = FRAME_RATE / STACKED

    def __init__(self, model: MelCtc, config: MelCtcConfig) -> None:
        self.model, self.config = model.eval(), config
        self.lag = Lag(config.lag_start, config.lag_end)

    def log_probs(self, wave: np.ndarray) -> np.ndarray:
        """See `FrameModel`."""
        return self.log_probs_of_mel(log_mel(torch.from_numpy(wave).to(self.model.mel_mean.device)))

    @torch.inference_mode()
    def log_probs_of_mel(self, mel: torch.Tensor) -> np.ndarray:
        """Log-mel float32 `[frames, 80]` -> float32 `[ceil(frames / 2), 29]`."""
        padded = F.pad(mel, (0, 0, 0, len(mel) % STACKED), value=math.log10(FLOOR)).to(self.model.mel_mean.device)
        lengths = torch.tensor([len(padded) // STACKED], device=padded.device)
        return self.model(padded[None], lengths)[0].log_softmax(dim=-1).cpu().numpy()

    @property
    def reach(self) -> float:
        """Seconds on either side of a frame that what is said in it may depend on."""
        shape = self.config.shape
        return (shape.blocks * shape.reach + 1) / self.frame_rate

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        save_model(folder, self.config.model_dump(mode="json"), self.model.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path) -> MelCtcModel:
        """Raises `InputError` where `folder` holds no model of this kind, or files that do not fit together."""
        config = read_config(folder, MelCtcConfig)
        model = load_weights(MelCtc(config.shape), read_tensors(folder / MODEL_FILE), folder / MODEL_FILE)
        return cls(model.to(training_device()), config)


def sound_edges(mel: np.ndarray) -> tuple[int, int]:
    """The first frame of log-mel `[frames, 80]` in which something sounds, and the one after the last.

    Loud is what is above a third of the way, in decibels, from the quietest frame to the loud ones.
    """
    loudness = mel.max(axis=1)
    quiet, loud = float(loudness.min()), float(np.percentile(loudness, 95))
    sounding = np.flatnonzero(loudness > quiet + (loud - quiet) / 3)
    return (int(sounding[0]), int(sounding[-1]) + 1) if len(sounding) else (0, len(mel))
