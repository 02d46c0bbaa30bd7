"""A speech decoder by flow matching: units -> mel (`flow.py`) -> waveform (`hift.py`), whole or streaming.

In the causal layout a stream does each block once and gives what `decode` gives. GLM-4-Voice's and CosyVoice 1's
decoders, which need the whole utterance, are read as published and do not stream here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import nn

from spiritlm.audio.vocoder_mel import VocoderMel
from spiritlm.config import Recipe, validate_recipe
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.memory import Memories
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model
from spiritlm.synthesis.durations import DurationPredictor
from spiritlm.synthesis.flow import Flow, FlowConfig, Known
from spiritlm.synthesis.flow_stream import FlowStream
from spiritlm.synthesis.hift import Hift
from spiritlm.synthesis.noise import published_noise
from spiritlm.synthesis.protocol import check_voice, checked_durations, checked_units, place_of
from spiritlm.synthesis.vocoder import VocoderConfig, speak
from spiritlm.synthesis.vocoder_stream import VocoderStream
from spiritlm.tokens.streams import Prosody


class FlowDecoderConfig(Recipe):
    """What `config.json` of a decoder holds."""

    type: Literal["flow-matching"] = "flow-matching"
    flow: FlowConfig
    vocoder: VocoderConfig
    speakers: tuple[str, ...] = Field(min_length=1)
    durations: bool
    """Whether units are deduplicated and their durations predicted."""
    steps: PositiveInt = 10
    """Of the flow."""
    temperature: NonNegativeFloat = 1.0
    """Deviation of the noise that it begins with; 1 as published."""

    @model_validator(mode="after")
    def _fits_together(self) -> FlowDecoderConfig:
        flow, mel = self.flow, self.vocoder.mel
        if flow.mels != mel.mels or abs(flow.frame_rate - mel.frame_rate) > 1e-3:
            raise ValueError(
                f"the vocoder hears {mel.mels} mels at {mel.frame_rate:g} Hz, "
                f"the flow gives {flow.mels} at {flow.frame_rate:g} Hz"
            )
        return self


class UnitsToMel(nn.Module):
    """What `training/train_flow.py` trains: the flow, its voices, durations, and the scale of its mel."""

    mel_mean: torch.Tensor
    mel_deviation: torch.Tensor

    def __init__(
        self, config: FlowConfig, speakers: int, durations: bool, mel_mean: float = 0.0, mel_deviation: float = 1.0
    ) -> None:
        """`mel_mean`, `mel_deviation`: of log-mel; the flow works on `(mel - mean) / deviation`."""
        super().__init__()
        self.flow = Flow(config)
        self.voices = nn.Embedding(speakers, config.speaker_size)
        self.durations = DurationPredictor(config.input_size) if durations else None
        self.register_buffer("mel_mean", torch.tensor(mel_mean))
        self.register_buffer("mel_deviation", torch.tensor(mel_deviation))

    def standardise(self, mel: torch.Tensor) -> torch.Tensor:
        return (mel - self.mel_mean) / self.mel_deviation

    def restore(self, standardised: torch.Tensor) -> torch.Tensor:
        return standardised * self.mel_deviation + self.mel_mean


class FlowDecoder:
    """A `MelDecoder` (see `spiritlm/synthesis/protocol.py`)."""

    def __init__(self, model: UnitsToMel, vocoder: Hift, config: FlowDecoderConfig) -> None:
        device = training_device()
        self.model, self.vocoder, self.config = model.to(device).eval(), vocoder.to(device).eval(), config
        self.sample_rate = config.vocoder.shape.sample_rate
        self.vocabulary_size = config.flow.vocabulary_size
        self.speakers, self.deduplicated = config.speakers, config.durations
        self.styles: tuple[str, ...] = ()
        self.expressive = False
        self.device = device

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
        """Log-mel `[frames, mels]` -> float32 `[samples]`."""
        return speak(self.vocoder, mel.T)

    @torch.inference_mode()
    def mel(self, units: np.ndarray, speaker: str | None = None, durations: np.ndarray | None = None) -> torch.Tensor:
        """Log-mel `[frames, mels]`. `durations` int `[n]`, at least 1, replace the predicted ones. Errors as in
        `decode`."""
        checked = torch.from_numpy(checked_units(units, self.vocabulary_size)).to(self.device)[None]
        voice = self.model.voices.weight[place_of(speaker, self.speakers, "speaker")][None]
        if durations is not None:
            lasting = torch.from_numpy(checked_durations(durations, checked.shape[1])).to(self.device)
            checked = checked.repeat_interleave(lasting, dim=1)
        elif self.model.durations is not None:
            lasting = self.model.durations.durations(self.model.flow.input_embedding(checked))[0]
            checked = checked.repeat_interleave(lasting, dim=1)
        if self.config.flow.layout != "causal":
            return self.model.restore(self._whole(checked, voice)).T
        stream = FlowStream(self.model.flow, voice, self.config.steps, temperature=self.config.temperature)
        return self.model.restore(torch.cat([stream.push(checked[0]), stream.finish()], dim=1)).T

    def _whole(self, units: torch.Tensor, speaker: torch.Tensor) -> torch.Tensor:
        """`[mels, frames]`, in an interpolating layout."""
        flow = self.model.flow
        condition = flow.condition(units).transpose(1, 2)
        known = Known(condition, flow.voice(speaker), torch.zeros_like(condition))
        noise = self.config.temperature * published_noise(condition.shape[2], flow.config.mels).to(self.device)
        return flow.solve(noise, known, self.config.steps)[0]

    def stream(self, speaker: str | None = None, style: str | None = None) -> FlowSpeechStream:
        """See `SpeechDecoder.stream`."""
        check_voice(self, speaker, style)
        return FlowSpeechStream(self, speaker)

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        both = nn.ModuleDict({"units_to_mel": self.model, "vocoder": self.vocoder})
        save_model(folder, self.config.model_dump(mode="json"), both.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path) -> FlowDecoder:
        """Raises `InputError` where `folder` holds no decoder of this kind, or files that do not fit together."""
        config = read_config(folder, FlowDecoderConfig)
        model, vocoder = UnitsToMel(config.flow, len(config.speakers), config.durations), Hift(config.vocoder.shape)
        both = nn.ModuleDict({"units_to_mel": model, "vocoder": vocoder})
        load_weights(both, read_tensors(folder / MODEL_FILE), folder / MODEL_FILE)
        return cls(model, vocoder, config)

    @classmethod
    def of_published(cls, flow: Flow, vocoder: Hift, mel: VocoderMel) -> FlowDecoder:
        """With the voice of a zero vector, which is GLM-4-Voice's only one; units are not deduplicated."""
        model = UnitsToMel(flow.config, 1, durations=False)
        model.flow = flow
        nn.init.zeros_(model.voices.weight)
        spoken = validate_recipe(VocoderConfig, {"mel": mel, "shape": vocoder.shape}, "a published vocoder")
        table = {"flow": flow.config, "vocoder": spoken, "speakers": ("default",), "durations": False}
        config = validate_recipe(FlowDecoderConfig, table, "a published decoder")
        return cls(model, vocoder, config)


class FlowSpeechStream:
    """A `SpeechStream` of the causal layout. The first samples leave once a block of units and the encoder's look-ahead
    are there; what a block costs does not depend on what was before."""

    def __init__(self, decoder: FlowDecoder, speaker: str | None) -> None:
        self._decoder, model = decoder, decoder.model
        voice = model.voices.weight[place_of(speaker, decoder.speakers, "speaker")][None]
        self._flow = FlowStream(model.flow, voice, decoder.config.steps, temperature=decoder.config.temperature)
        self._vocoder = VocoderStream(decoder.vocoder)
        self._durations = Memories()
        self._empty = True

    @torch.inference_mode()
    def push(self, units: np.ndarray, prosody: Prosody | None = None) -> np.ndarray:
        """See `SpeechStream.push`."""
        if not len(units):
            return np.zeros(0, np.float32)
        self._empty = False
        decoder, model = self._decoder, self._decoder.model
        new = torch.from_numpy(checked_units(units, decoder.vocabulary_size)).to(decoder.device)
        if model.durations is not None:
            embedded = model.flow.input_embedding(new[None])
            new = new.repeat_interleave(model.durations.durations(embedded, self._durations)[0])
        return self._spoken(self._flow.push(new))

    def finish(self) -> np.ndarray:
        """See `SpeechStream.finish`."""
        if self._empty:
            raise InputError("no units: expected at least one to speak")
        return np.concatenate([self._spoken(self._flow.finish()), self._vocoder.finish().cpu().numpy()])

    def _spoken(self, mel: torch.Tensor) -> np.ndarray:
        return self._vocoder.push(self._decoder.model.restore(mel)).cpu().numpy()
