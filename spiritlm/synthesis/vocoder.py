"""A trained vocoder in a folder: HiFT and the mel frames that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import model_validator

from spiritlm.audio.vocoder_mel import VocoderMel
from spiritlm.config import Recipe
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model
from spiritlm.synthesis.hift import Hift, HiftShape
from spiritlm.synthesis.vocoder_stream import VocoderStream


class VocoderConfig(Recipe):
    """What `config.json` of a vocoder holds."""

    type: Literal["hift"] = "hift"
    mel: VocoderMel
    shape: HiftShape

    @model_validator(mode="after")
    def _fits_together(self) -> VocoderConfig:
        mel, shape = self.mel, self.shape
        if (mel.sample_rate, mel.hop, mel.mels) != (shape.sample_rate, shape.hop, shape.mels):
            raise ValueError(
                f"the network speaks at {shape.sample_rate} Hz, {shape.hop} samples a frame of {shape.mels} mels; "
                f"the frames are of {mel.sample_rate} Hz, {mel.hop} samples and {mel.mels} mels"
            )
        return self


def save_vocoder(folder: Path, vocoder: Hift, config: VocoderConfig) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
    save_model(folder, config.model_dump(mode="json"), vocoder.state_dict())


def load_vocoder(folder: Path) -> tuple[Hift, VocoderConfig]:
    """Not in training mode. Raises `InputError` where `folder` holds no vocoder."""
    config = read_config(folder, VocoderConfig)
    return load_weights(Hift(config.shape), read_tensors(folder / MODEL_FILE), folder / MODEL_FILE).eval(), config


def speak(vocoder: Hift, mel: torch.Tensor) -> torch.Tensor:
    """Log-mel `[mels, frames]` -> float32 `[samples]`, `hop` of each frame; always the same."""
    stream = VocoderStream(vocoder)
    return torch.cat([stream.push(mel), stream.finish()])
