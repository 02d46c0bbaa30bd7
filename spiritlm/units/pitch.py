"""Pitch units (Spirit LM Expressive): F0 and voicing at 200 Hz, in 64 codes at 12.5 Hz.

Published, F0 is tracked over the whole recording, in Hz, and its mean over voiced frames is taken off: what is kept
is how a speaker moves about a mean that only the end of the recording tells, so nothing streams. Ours (`blocks`) is
tracked and encoded in windows, each a few units of past, the units that are made, and a few of look-ahead, with
nothing taken off the logarithm of F0: units say how high a voice is, and offline and streamed they are the same ones
because they come of the same windows. Each window is encoded alone, so a batch changes nothing; tracker and network
(0.2 M parameters) run on the CPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from spiritlm.audio.f0 import CEILING, FLOOR, HOP, SAMPLE_RATE, Tracker, interpolate_f0, track_f0
from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.weights import MODEL_FILE, read_config, read_pt, read_tensors, save_model
from spiritlm.units.pitch_vqvae import (
    AVERAGES,
    PitchVqVae,
    PitchVqVaeShape,
    network,
    published_shape,
    published_tensors,
)
from spiritlm.units.protocol import UnitStream, checked_wave

REFERENCE = 150.0
"""Hz, at 0 octaves."""
FEATURES = r"(norm_)?f0(_interp)?,vuv"
"""Published names of what the network sees."""


class PitchBlocks(Recipe):
    """Windows that are tracked and encoded by themselves; sizes in units."""

    context: NonNegativeInt = 4
    """Heard before the units that are made; silence where nothing is."""
    units: PositiveInt = 10
    """Made of a window."""
    ahead: NonNegativeInt = 2
    """Heard behind them."""

    @property
    def window(self) -> int:
        return self.context + self.units + self.ahead


class PitchConfig(Recipe):
    """What `config.json` of a tokenizer holds. The defaults are the published recipe's."""

    type: Literal["pitch-vqvae"] = "pitch-vqvae"
    shape: PitchVqVaeShape = PitchVqVaeShape()
    tracker: Tracker = "world"
    scale: Literal["hz", "octaves"] = "hz"
    """octaves: the logarithm, 0 at 150 Hz; a tenth of a low voice weighs as much as one of a high voice."""
    normalization: Literal["none", "utterance", "speaker"] = "utterance"
    """The mean that is taken off: none, of the recording's voiced frames, or of the speaker's, which falls back to the
    recording's where the speaker is not known."""
    speaker_means: dict[str, float] = Field(default_factory=dict)
    """In the scale, by speaker."""
    interpolate: bool = True
    """F0 goes on in straight lines where nothing is voiced; otherwise it is 0 there."""
    blocks: PitchBlocks | None = None
    published: bool = False
    """Recordings have `samples // unit` units, the last ones lost, not `ceil(samples / unit)`."""
    sample_rate: Annotated[int, Field(ge=SAMPLE_RATE, le=SAMPLE_RATE)] = SAMPLE_RATE

    @model_validator(mode="after")
    def _fits(self) -> PitchConfig:
        if self.shape.channels != 2:
            raise ValueError(f"shape.channels is {self.shape.channels}, expected 2: F0 and voicing")
        if self.blocks is not None and (self.normalization != "none" or self.published):
            raise ValueError("blocks know no mean and no published lengths: expected normalization = none or no blocks")
        return self

    @property
    def unit_samples(self) -> int:
        return HOP * self.shape.hop

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.sample_rate / self.unit_samples

    def scaled(self, f0: np.ndarray) -> np.ndarray:
        """`f0` `[frames]` of Hz in the scale; 0 where it is 0."""
        if self.scale == "hz":
            return f0
        return np.where(f0 > 0, np.log2(np.maximum(f0, 1e-3) / REFERENCE), 0.0).astype(np.float32)

    def mean(self, f0: np.ndarray, voiced: np.ndarray, speaker: str | None = None) -> float:
        """What the normalization takes off `f0` `[frames]` of Hz, in the scale; 0 where nothing is `voiced`."""
        if self.normalization == "none":
            return 0.0
        if self.normalization == "speaker" and speaker in self.speaker_means:
            return self.speaker_means[speaker]
        return float(self.scaled(f0)[voiced].mean(dtype=np.float64)) if voiced.any() else 0.0

    def frames(self, f0: np.ndarray, voiced: np.ndarray, mean: float) -> np.ndarray:
        """What the network sees, float32 `[2, frames]`: `f0` `[frames]` of Hz, interpolated or not, in the scale and
        without `mean` where it is not 0; and `voiced` bool `[frames]`."""
        return np.stack([np.where(f0 != 0, self.scaled(f0) - np.float32(mean), 0.0), voiced]).astype(np.float32)

    def features(self, f0: np.ndarray, mean: float | None = None, speaker: str | None = None) -> np.ndarray:
        """`frames` of `f0` float32 `[frames]` of Hz, 0 where unvoiced. Without a `mean`, it is that of
        `normalization`. Nothing voiced: all zeros."""
        voiced = f0 > 0
        if mean is None:
            mean = self.mean(f0, voiced, speaker)
        return self.frames(interpolate_f0(f0) if self.interpolate else f0, voiced, mean)


class PitchTokenizer:
    """A `StreamTokenizer` (see `spiritlm/units/protocol.py`)."""

    def __init__(self, model: PitchVqVae, config: PitchConfig) -> None:
        self.model, self.config = model.cpu().eval(), config
        self.rate, self.vocabulary_size, self.sample_rate = config.rate, config.shape.codes, config.sample_rate

    def encode(self, wave: np.ndarray, sample_rate: int, speaker: str | None = None) -> UnitStream:
        """`wave`: float32 `[samples]` in [-1, 1] at 16 kHz; gives `ceil(samples / 1280)` units (published sizes), for
        silence too. `speaker`: whose mean is taken off, where `normalization` asks for one.

        Raises `InputError` for another rate, stereo, non-finite samples, an empty wave, or with `published` one that is
        shorter than a unit."""
        size, blocks = self.config.unit_samples, self.config.blocks
        wave = checked_wave(wave, sample_rate, self.sample_rate, size if self.config.published else 1)
        if blocks is not None:
            stream = PitchStream(self)
            return UnitStream(np.concatenate([stream.push(wave), stream.finish()]), self.rate)
        if not self.config.published:
            wave = np.pad(wave, (0, -len(wave) % size))
        f0 = track_f0(wave[: len(wave) // HOP * HOP], self.config.tracker)
        return UnitStream(self.units(self.config.features(f0, speaker=speaker)), self.rate)

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStream]:
        """One recording at a time: the network is small beside the tracker, and nothing is padded."""
        return [self.encode(wave, sample_rate) for wave in waves]

    def stream(self) -> PitchStream:
        """See `SpeechTokenizer.stream`. Units leave in blocks, `ahead` units after the last of them was heard."""
        if self.config.blocks is None:
            raise InputError("these pitch units do not stream: F0 and its mean are of the whole recording")
        return PitchStream(self)

    @torch.inference_mode()
    def units(self, features: np.ndarray) -> np.ndarray:
        """Units int32 `[frames // hop]` of `features` float32 `[2, frames]` (see `PitchConfig.features`). Raises
        `InputError` for fewer frames than a unit has."""
        if features.shape[1] < self.config.shape.hop:
            raise InputError(f"{features.shape[1]} frames of pitch: expected at least {self.config.shape.hop}, a unit")
        codes = self.model.encode(torch.from_numpy(features)[None])[0]
        return codes.numpy().astype(np.int32)

    @torch.inference_mode()
    def decode_f0(self, units: np.ndarray, mean: float = 0.0) -> np.ndarray:
        """F0 that `units`, int `[n]`, stand for: float32 `[n * hop]` of Hz at 200 Hz, within 50 to 1100 Hz; 0 where
        they are unvoiced. `mean`: what the normalization took off, in the scale (`PitchConfig.mean`). Raises
        `InputError` for units outside the vocabulary."""
        if not len(units):
            return np.zeros(0, np.float32)
        if min(units) < 0 or max(units) >= self.vocabulary_size:
            raise InputError(f"expected units of 0 to {self.vocabulary_size - 1}, found {min(units)} to {max(units)}")
        decoded = self.model.decode(torch.as_tensor(np.asarray(units), dtype=torch.int64)[None])[0].numpy()
        values = decoded[0] + np.float32(mean)
        hertz = REFERENCE * np.exp2(np.clip(values, -10, 10)) if self.config.scale == "octaves" else values
        return np.where(decoded[1] > 0.5, np.clip(hertz, FLOOR, CEILING), 0.0).astype(np.float32)

    def save_pretrained(self, folder: Path) -> None:
        """See `SpeechTokenizer.save_pretrained`. Of the codebook, the codes alone."""
        tensors = {name: t for name, t in self.model.state_dict().items() if name not in AVERAGES}
        save_model(folder, self.config.model_dump(mode="json"), tensors)

    @classmethod
    def from_pretrained(cls, folder: Path) -> PitchTokenizer:
        """Raises `InputError` where `folder` holds no tokenizer of this kind, or files that do not fit together."""
        config = read_config(folder, PitchConfig)
        path = folder / MODEL_FILE
        return cls(network(config.shape, read_tensors(path), path), config)


class PitchStream:
    """A `UnitEncoding`."""

    def __init__(self, tokenizer: PitchTokenizer) -> None:
        assert tokenizer.config.blocks is not None
        self.tokenizer, self.blocks, self.size = tokenizer, tokenizer.config.blocks, tokenizer.config.unit_samples
        self._wave = np.zeros(self.blocks.context * self.size, np.float32)
        """From the beginning of the next window on."""

    def push(self, wave: np.ndarray) -> np.ndarray:
        """See `UnitEncoding.push`."""
        wave = checked_wave(wave, self.tokenizer.sample_rate, self.tokenizer.sample_rate, least=0)
        self._wave = np.concatenate([self._wave, wave])
        units = [np.zeros(0, np.int32)]
        begin, window, step = 0, self.blocks.window * self.size, self.blocks.units * self.size
        while begin + window <= len(self._wave):
            units.append(self._block(self._wave[begin : begin + window]))
            begin += step
        self._wave = self._wave[begin:]
        return np.concatenate(units)

    def finish(self) -> np.ndarray:
        """See `UnitEncoding.finish`; silence fills the windows that are left."""
        left = -(-(len(self._wave) - self.blocks.context * self.size) // self.size)
        blocks = -(-left // self.blocks.units)
        missing = (self.blocks.window + (blocks - 1) * self.blocks.units) * self.size - len(self._wave)
        return self.push(np.zeros(max(0, missing), np.float32))[:left]

    def _block(self, window: np.ndarray) -> np.ndarray:
        config = self.tokenizer.config
        units = self.tokenizer.units(config.features(track_f0(window, config.tracker)))
        return units[self.blocks.context : self.blocks.context + self.blocks.units]


def read_published_pitch(folder: Path, tracker: Tracker = "fcpe", published: bool = False) -> PitchTokenizer:
    """Spirit LM's layout: `model.pt`, a dictionary with the state as `model`, and `config.yaml`. Nothing but tensors
    and plain values is read. `tracker`: the published one is `fcpe`. Raises `InputError` where the files are absent,
    hold anything else or do not fit together."""
    path, described = folder / "model.pt", folder / "config.yaml"
    try:
        raw = yaml.safe_load(described.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{described}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{described}: not YAML of plain values: {str(error).splitlines()[0]}") from None
    content = read_pt(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), Mapping):
        raise InputError(f"{path}: expected a published pitch VQ-VAE, a dictionary with model")
    config = published_config(raw, described, tracker, published)
    return PitchTokenizer(network(config.shape, published_tensors(content["model"], config.shape), path), config)


def published_config(raw: Any, path: Path, tracker: Tracker = "fcpe", published: bool = True) -> PitchConfig:
    """The content of a published `config.yaml`, which is at `path`. Raises `InputError` for what is not built here."""
    if not isinstance(raw, Mapping):
        raise InputError(f"{path}: expected a table of settings")
    for name, only in (("sample_rate", SAMPLE_RATE), ("f0_hop_samples", HOP)):
        if raw.get(name, only) != only:
            raise InputError(f"{path}: {name} is {raw[name]!r}, expected {only}")
    features = raw.get("features", "norm_f0_interp,vuv")
    found = re.fullmatch(FEATURES, features.replace(" ", "") if isinstance(features, str) else "")
    if found is None:
        raise InputError(f"{path}: features is {features!r}, expected f0 or f0_interp, norm_ before it or not, and vuv")
    try:
        means = {name: float(stats["f0_mean"]) for name, stats in (raw.get("speaker_stats") or {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: speaker_stats: expected an f0_mean for each speaker") from None
    return PitchConfig(
        shape=published_shape(raw, path),
        tracker=tracker,
        normalization="speaker" if found[1] or raw.get("speaker_norm") else "none",
        speaker_means=means,
        interpolate=bool(found[2]),
        published=published,
    )
