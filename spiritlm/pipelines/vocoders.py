"""The two kinds of vocoders that adversarial training makes: their networks, batches, own losses, and dev recordings.

FromMel    HiFT: mel frames -> waveform
FromUnits  the unit HiFi-GAN: units, and what else is said of them, -> waveform, and how long units last
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from spiritlm.audio.f0 import track_frames
from spiritlm.audio.files import read_audio
from spiritlm.audio.vocoder_mel import vocoder_log_mel
from spiritlm.errors import InputError
from spiritlm.pipelines.wave_crops import Told, UnitWaveCrops, WaveCrops
from spiritlm.run.fit import Batch
from spiritlm.synthesis.adversarial import Made
from spiritlm.synthesis.hift import Hift
from spiritlm.synthesis.unit_decoder import UnitDecoder, UnitDecoderConfig
from spiritlm.synthesis.unit_hifigan import F0_PLACES, UnitHifigan
from spiritlm.synthesis.vocoder import VocoderConfig, save_vocoder, speak
from spiritlm.tokens.streams import prosody_at

LEVEL_RECORDINGS = 16
"""Of training, beside which it is found how softly a network speaks."""
PER_PITCH_UNIT = 8
"""Places in a pitch unit where F0 is looked at."""


class Spoken(NamedTuple):
    """A dev recording, as it was and as it is spoken at its own pace; float32 `[samples]`."""

    name: str
    recorded: np.ndarray
    spoken: np.ndarray
    seconds: float
    """That speaking took."""


class Vocoder(Protocol):
    """What `training/train_vocoder.py` trains."""

    @property
    def crops(self) -> WaveCrops | UnitWaveCrops: ...

    @property
    def dev(self) -> Sequence[object]:
        """Recordings that `again` can speak."""
        ...

    def network(self) -> nn.Module:
        """A new one."""
        ...

    def batch(self, step: int) -> Batch:
        """With `waves` float32 `[batch, samples]`."""
        ...

    def make(self, network: nn.Module, batch: Batch) -> Made: ...

    def again(self, network: nn.Module, number: int) -> Spoken:
        """The dev recording of that number."""
        ...

    def save(self, network: nn.Module, folder: Path) -> None:
        """As a trained model."""
        ...


class FromMel:
    """A `Vocoder`; F0 is tracked as crops are read."""

    def __init__(
        self, config: VocoderConfig, crops: WaveCrops, dev: Sequence[tuple[str, Path]], f0_weight: float
    ) -> None:
        """`dev`: names and sound files."""
        self.config, self.crops, self.dev, self.f0_weight = config, crops, dev, f0_weight

    def network(self) -> Hift:
        return Hift(self.config.shape)

    def batch(self, step: int) -> Batch:
        """Also `f0` Hz float32 `[batch, frames]`, 0 where nothing is voiced."""
        batch, mel = self.crops.batch(step), self.config.mel
        waves = batch["waves"].numpy()
        f0 = [track_frames(w, mel.sample_rate, mel.frame_rate, mel.frames(len(w))) for w in waves]
        return {**batch, "f0": torch.from_numpy(np.stack(f0))}

    def make(self, network: nn.Module, batch: Batch) -> Made:
        """Its own loss is `f0`, mean distance in Hz."""
        assert isinstance(network, Hift)
        f0, mel = batch["f0"], vocoder_log_mel(batch["waves"], self.config.mel)
        wave = network(mel, network.m_source.at_random(f0))
        distance = (network.f0_predictor(mel) - f0).abs().mean()
        return Made(wave, {"f0": distance}, self.f0_weight * distance)

    @torch.inference_mode()
    def again(self, network: nn.Module, number: int) -> Spoken:
        assert isinstance(network, Hift)
        name, audio = self.dev[number]
        wave = read_audio(audio, self.config.mel.sample_rate)
        mel = vocoder_log_mel(torch.from_numpy(wave).to(network.window.device)[None], self.config.mel)[0]
        started = time.monotonic()
        spoken = speak(network, mel).cpu().numpy()
        return Spoken(name, wave[: len(spoken)], spoken, time.monotonic() - started)

    def save(self, network: nn.Module, folder: Path) -> None:
        assert isinstance(network, Hift)
        save_vocoder(folder, network, self.config)


class FromUnits:
    """A `Vocoder` that is a whole speech decoder."""

    def __init__(
        self,
        config: UnitDecoderConfig,
        crops: UnitWaveCrops,
        dev: Sequence[Told],
        duration_weight: float,
        f0_weight: float,
    ) -> None:
        self.config, self.crops, self.dev = config, crops, dev
        self.duration_weight, self.f0_weight = duration_weight, f0_weight

    def network(self) -> UnitHifigan:
        return UnitHifigan(self.config.shape)

    def batch(self, step: int) -> Batch:
        """See `UnitWaveCrops.batch`; with `f0` Hz float32 `[batch, F0_PLACES * units]` where it is predicted."""
        batch, shape = self.crops.batch(step), self.config.shape
        if not shape.harmonics:
            return batch
        rate, places = F0_PLACES * shape.sample_rate / shape.hop, F0_PLACES * batch["units"].shape[1]
        f0 = [track_frames(wave, shape.sample_rate, rate, places) for wave in batch["waves"].numpy()]
        return {**batch, "f0": torch.from_numpy(np.stack(f0))}

    def make(self, network: nn.Module, batch: Batch) -> Made:
        """Its own losses are `f0`, mean distance in Hz, where it has a source, and `duration`, mean square of the
        logarithm's error, where it predicts them."""
        assert isinstance(network, UnitHifigan)
        told = {name: batch.get(name) for name in ("pitch", "style_units", "speakers", "styles")}
        embedded, source, losses = network.embed(batch["units"], **told), None, {}
        total = embedded.new_zeros(())
        if network.shape.harmonics:
            source = network.m_source.at_random(batch["f0"])
            losses["f0"] = (network.f0_predictor(embedded) - batch["f0"]).abs().mean()
            total = total + self.f0_weight * losses["f0"]
        if network.dur_predictor is not None:
            runs = network.dict(batch["runs"]) * (batch["durations"] > 0)[..., None]
            losses["duration"] = network.dur_predictor.loss(runs, batch["durations"], batch["whole"])
            total = total + self.duration_weight * losses["duration"]
        return Made(network(embedded, source), losses, total)

    def again(self, network: nn.Module, number: int) -> Spoken:
        return self._spoken(self._decoder(network), self.dev[number])

    def save(self, network: nn.Module, folder: Path) -> None:
        """With the gain that some of the training recordings need."""
        decoder = self._decoder(network)
        recordings = list({id(told): told for told, _, _ in self.crops.pieces}.values())
        chosen = np.unique(np.linspace(0, len(recordings) - 1, LEVEL_RECORDINGS).astype(int))
        found = [self._spoken(decoder, recordings[number]) for number in chosen]
        ratios = [np.std(one.recorded) / max(float(np.std(one.spoken)), 1e-6) for one in found]
        gain = float(np.exp(np.mean(np.log(np.maximum(ratios, 1e-3)))))
        self.config = self.config.model_copy(update={"gain": round(gain, 3)})
        self._decoder(network).save_pretrained(folder)

    def _decoder(self, network: nn.Module) -> UnitDecoder:
        assert isinstance(network, UnitHifigan)
        return UnitDecoder(network, self.config)

    def _spoken(self, decoder: UnitDecoder, told: Told) -> Spoken:
        units = told.document.semantic.astype(np.int64)
        streams = told.document.pitch, told.document.style
        prosody = prosody_at(*streams, self.crops.rates, np.arange(len(units))) if decoder.expressive else None
        style = decoder.styles[int(told.styles[len(units) // 2])] if decoder.config.shape.styles else None
        started = time.monotonic()
        spoken = decoder.decode(units, decoder.speakers[told.speaker], style, prosody, np.ones_like(units))
        seconds = time.monotonic() - started
        wave = read_audio(told.audio, decoder.sample_rate, told.start, told.start + len(spoken) / decoder.sample_rate)
        length = min(len(wave), len(spoken))
        return Spoken(told.name, wave[:length], spoken[:length], seconds)


def pitch_hertz(recordings: Sequence[Told], rate: float, pitch_units: int, sample_rate: int) -> tuple[float, ...]:
    """Mean F0 of each pitch unit of `rate` Hz over the frames of `recordings` that are voiced, in octaves; 0 for a unit
    that is mostly unvoiced, or nowhere. `sample_rate`: at which recordings are read; those that cannot be are passed
    over."""
    octaves, voiced, met = np.zeros(pitch_units), np.zeros(pitch_units), np.zeros(pitch_units)
    for told in recordings:
        pitch = told.document.pitch.astype(np.int64)
        try:
            wave = read_audio(told.audio, sample_rate, told.start, told.start + len(pitch) / rate)
        except InputError:
            continue
        f0 = track_frames(wave, sample_rate, PER_PITCH_UNIT * rate, PER_PITCH_UNIT * len(pitch))
        units = np.repeat(pitch, PER_PITCH_UNIT)
        met += np.bincount(units, minlength=pitch_units)
        voiced += np.bincount(units[f0 > 0], minlength=pitch_units)
        octaves += np.bincount(units[f0 > 0], np.log2(f0[f0 > 0]), minlength=pitch_units)
    known = (voiced > met / 2) & (voiced > 0)
    hertz = np.where(known, 2.0 ** (octaves / np.maximum(voiced, 1)), 0.0)
    return tuple(float(round(value, 1)) for value in hertz)
