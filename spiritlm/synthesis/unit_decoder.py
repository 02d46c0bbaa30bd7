"""The unit HiFi-GAN as a speech decoder: base or expressive, whole or streaming, trained here or published.

Deduplicated units get durations from the network's own predictor, which hears two units on either side; pitch and
style units last as long as the unit that they are said with. A stream hears each stretch again with as many units
around it as a sample can hear, so that the pieces are what `decode` gives.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model
from spiritlm.synthesis.harmonics import SourceStream
from spiritlm.synthesis.protocol import SpeechDecoder, checked_durations, checked_units, place_of
from spiritlm.synthesis.unit_hifigan import F0_PLACES, F0_REACH, UnitHifigan, UnitHifiganShape
from spiritlm.tokens.streams import Prosody


class UnitDecoderConfig(Recipe):
    """What `config.json` of a decoder holds."""

    type: Literal["unit-hifigan"] = "unit-hifigan"
    shape: UnitHifiganShape
    speakers: tuple[str, ...] = Field(min_length=1)
    default_speaker: NonNegativeInt = 0
    styles: tuple[str, ...] = ()
    """Of utterances; in an expressive decoder, names for some of its style units."""
    default_style: NonNegativeInt = 0
    style_units: tuple[NonNegativeInt, ...] = ()
    """Of an expressive decoder: the unit that each of `styles` stands for."""
    pitch_hertz: tuple[NonNegativeFloat, ...] = ()
    """Mean F0 of each pitch unit in what was trained on, 0 where it is mostly unvoiced; empty where nobody knows."""

    gain: PositiveFloat = 1.0
    """Of what the network says: a distance of log-mel is least a little too softly."""

    @model_validator(mode="after")
    def _fits_together(self) -> UnitDecoderConfig:
        shape = self.shape
        if bool(shape.pitch_units) != bool(shape.style_units):
            raise ValueError("shape: expected both pitch_units and style_units, or neither")
        if shape.speakers not in (0, len(self.speakers)):
            raise ValueError(f"shape.speakers is {shape.speakers}, and {len(self.speakers)} have a name")
        if shape.styles not in (0, len(self.styles)) or len(self.style_units) != len(self.styles) * self.expressive:
            raise ValueError("styles: expected a name for each of shape.styles, or one of style_units for each name")
        if max((0, *self.style_units)) >= max(1, shape.style_units):
            raise ValueError(f"style_units: expected units below {shape.style_units}")
        if self.default_speaker >= len(self.speakers) or self.default_style >= max(1, len(self.styles)):
            raise ValueError("default_speaker, default_style: expected places among those that have a name")
        if len(self.pitch_hertz) not in (0, shape.pitch_units):
            raise ValueError(f"pitch_hertz: expected one for each of {shape.pitch_units} pitch units")
        return self

    @property
    def expressive(self) -> bool:
        return self.shape.pitch_units > 0


class UnitDecoder:
    """A `SpeechDecoder` (see `spiritlm/synthesis/protocol.py`)."""

    def __init__(self, model: UnitHifigan, config: UnitDecoderConfig) -> None:
        self.device = training_device()
        self.model, self.config = model.to(self.device).eval(), config
        self.sample_rate, self.vocabulary_size = config.shape.sample_rate, config.shape.units
        self.speakers, self.styles, self.expressive = config.speakers, config.styles, config.expressive
        self.deduplicated = config.shape.duration_width > 0
        self._f0_predictor = copy.deepcopy(self.model.f0_predictor).double() if config.shape.harmonics else None

    @torch.inference_mode()
    def decode(
        self,
        units: np.ndarray,
        speaker: str | None = None,
        style: str | None = None,
        prosody: Prosody | None = None,
        durations: np.ndarray | None = None,
    ) -> np.ndarray:
        """See `SpeechDecoder.decode`."""
        voice, told = self.voice(speaker, style), self.told(units, style, prosody)
        if durations is not None:
            lasting = torch.from_numpy(checked_durations(durations, told.shape[1])).to(self.device)
            told = told.repeat_interleave(lasting, dim=1)
        elif self.deduplicated:
            told = told.repeat_interleave(self.model.durations(told[:1])[0], dim=1)
        embedded, source = self.embedded(told, voice), None
        if self.config.shape.harmonics:
            source = SourceStream(self.model.m_source).push(self.f0(embedded))
        return self.loud(self.model(embedded, source)[0])

    def f0(self, embedded: torch.Tensor) -> torch.Tensor:
        """Hz float64 `[1, F0_PLACES * n]`: phases add up the last bit of it, so that float32 would let a stream and the
        whole drift apart."""
        assert self._f0_predictor is not None
        found: torch.Tensor = self._f0_predictor(embedded.double())
        return found

    def loud(self, wave: torch.Tensor) -> np.ndarray:
        """What the network says, at the level of recordings."""
        samples: np.ndarray = (self.config.gain * wave).clamp(-1, 1).cpu().numpy()
        return samples

    def voice(self, speaker: str | None, style: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of speaker and style, int64 `[1]` each. Raises `InputError` for one that it does not have."""
        speaker = self.speakers[self.config.default_speaker] if speaker is None else speaker
        if style is None and self.styles:
            style = self.styles[self.config.default_style]
        numbers = place_of(speaker, self.speakers, "speaker"), place_of(style, self.styles, "style")
        both = torch.tensor(numbers, device=self.device)
        return both[:1], both[1:]

    def told(self, units: np.ndarray, style: str | None, prosody: Prosody | None) -> torch.Tensor:
        """What is said of each unit, int64 `[streams, n]`: units, and pitch and style units where they are heard.
        Raises `InputError` where something is absent, outside of its vocabulary, or not of one length."""
        rows, shape = [checked_units(units, self.vocabulary_size)], self.config.shape
        if self.expressive:
            if prosody is None:
                raise InputError("the voice is told the pitch and style of every unit: expected units with both")
            rows += [checked_units(prosody.pitch, shape.pitch_units, "pitch unit")]
            rows += [checked_units(prosody.style, shape.style_units, "style unit")]
            if style is not None:
                rows[2] = np.full_like(rows[2], self.config.style_units[place_of(style, self.styles, "style")])
        if len({len(row) for row in rows}) > 1:
            raise InputError(
                f"{len(rows[0])} units, {len(rows[1])} pitch and {len(rows[2])} style units: expected as many of each"
            )
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def embedded(self, told: torch.Tensor, voice: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """`told` int64 `[streams, n]` of every unit of time -> `[1, inputs, n]`."""
        pitch, style_units = (told[1:2], told[2:3]) if self.expressive else (None, None)
        return self.model.embed(told[:1], pitch, style_units, *voice)

    def higher(self, semitones: float) -> np.ndarray:
        """The pitch unit nearest to so many semitones above each one, int64 `[pitch_units]`; unvoiced ones stay.

        Raises `InputError` in a decoder that does not know what its pitch units stand for."""
        hertz = np.array(self.config.pitch_hertz)
        if not (hertz > 0).any():
            raise InputError("the voice does not know how high its pitch units are: it cannot shift them")
        nearest, voiced = np.arange(len(hertz)), np.flatnonzero(hertz)
        octaves = np.log2(hertz[voiced])
        nearest[voiced] = voiced[np.abs(octaves - (octaves + semitones / 12)[:, None]).argmin(axis=1)]
        return nearest

    def stream(self, speaker: str | None = None, style: str | None = None) -> UnitSpeechStream:
        """See `SpeechDecoder.stream`. The first samples leave once all units that they hear, and that the durations and
        F0 of those hear, are there."""
        return UnitSpeechStream(self, speaker, style)

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        save_model(folder, self.config.model_dump(mode="json"), self.model.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path) -> UnitDecoder:
        """Raises `InputError` where `folder` holds no decoder of this kind, or files that do not fit together."""
        config = read_config(folder, UnitDecoderConfig)
        path = folder / MODEL_FILE
        return cls(load_weights(UnitHifigan(config.shape), read_tensors(path), path), config)


def shift_pitch(decoder: SpeechDecoder, prosody: Prosody | None, semitones: float) -> Prosody | None:
    """`prosody` with every voiced pitch unit so much higher. Raises `InputError` where the decoder cannot do that, with
    nothing to shift too, and for a number that is not finite."""
    if not semitones:
        return prosody
    if not math.isfinite(semitones):
        raise InputError(f"a pitch shift of {semitones}: expected a number of semitones")
    if not isinstance(decoder, UnitDecoder) or not decoder.expressive:
        raise InputError("the voice is told no pitch units: its pitch cannot be shifted")
    higher = decoder.higher(semitones)
    return prosody and prosody._replace(pitch=higher[checked_units(prosody.pitch, len(higher), "pitch unit")])


class UnitSpeechStream:
    """A `SpeechStream`. What a piece costs does not depend on what was before."""

    def __init__(self, decoder: UnitDecoder, speaker: str | None, style: str | None) -> None:
        self._decoder, self._voice, self._style = decoder, decoder.voice(speaker, style), style
        shape = decoder.config.shape
        self._reach, self._heard = shape.reach, 2 * (shape.duration_kernel // 2)
        """Units of time on either side that a sample hears, and units that a duration does."""
        streams = 3 if decoder.expressive else 1
        self._units = torch.zeros(streams, 0, dtype=torch.int64, device=decoder.device)
        """That still wait for durations, behind `_known` that have one and are heard by them."""
        self._told = self._units
        """Of every unit of time, the first `_spoken` of them spoken and heard by what comes."""
        self._known = self._spoken = 0
        self._empty = True
        self._source_stream = SourceStream(decoder.model.m_source) if shape.harmonics else None
        self._source = torch.zeros(1, 1 + shape.harmonics, 0, device=decoder.device)
        """As far as it is known, of the units of time in `_told`."""

    def push(self, units: np.ndarray, prosody: Prosody | None = None) -> np.ndarray:
        """See `SpeechStream.push`."""
        if not len(units):
            return np.zeros(0, np.float32)
        self._empty = False
        self._units = torch.cat([self._units, self._decoder.told(units, self._style, prosody)], dim=1)
        return self._speak(last=False)

    def finish(self) -> np.ndarray:
        """See `SpeechStream.finish`."""
        if self._empty:
            raise InputError("no units: expected at least one to speak")
        return self._speak(last=True)

    @torch.inference_mode()
    def _speak(self, last: bool) -> np.ndarray:
        self._told = torch.cat([self._told, self._lasting(last)], dim=1)
        hop, embedded = self._decoder.config.shape.hop, self._decoder.embedded(self._told, self._voice)
        known = self._told.shape[1]
        if self._source_stream is not None:
            known -= 0 if last else F0_REACH
            self._extend_source(embedded, known)
        stop = known - (0 if last else self._reach)
        if stop <= self._spoken:
            return np.zeros(0, np.float32)
        source = None if self._source_stream is None else self._source
        wave = self._decoder.model(embedded[:, :, :known], source)[0, self._spoken * hop : stop * hop]
        gone = max(0, stop - self._reach)
        self._told, self._source, self._spoken = self._told[:, gone:], self._source[:, :, gone * hop :], stop - gone
        return self._decoder.loud(wave)

    def _extend_source(self, embedded: torch.Tensor, stop: int) -> None:
        """Give units of time up to `stop` a source."""
        assert self._source_stream is not None
        start = self._source.shape[2] // self._decoder.config.shape.hop
        if stop > start:
            f0 = self._decoder.f0(embedded)[:, F0_PLACES * start : F0_PLACES * stop]
            self._source = torch.cat([self._source, self._source_stream.push(f0)], dim=2)

    def _lasting(self, last: bool) -> torch.Tensor:
        """Units whose durations are known now, each for as long as it lasts, `[streams, units of time]`."""
        if not self._decoder.deduplicated:
            told, self._units = self._units, self._units[:, :0]
            return told
        stop = self._units.shape[1] - (0 if last else self._heard)
        if stop <= self._known:
            return self._units[:, :0]
        new = slice(self._known, stop)
        lasting = self._decoder.model.durations(self._units[:1])[0, new]
        told = self._units[:, new].repeat_interleave(lasting, dim=1)
        gone = max(0, stop - self._heard)
        self._units, self._known = self._units[:, gone:], stop - gone
        return told
