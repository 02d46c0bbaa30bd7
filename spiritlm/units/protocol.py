"""The seam between sound and tokens: a waveform goes in, named streams of units come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from spiritlm.errors import InputError
from spiritlm.tokens.streams import Prosody, prosody_at

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class UnitStream:
    """One stream of units at a constant rate; unit `i` covers seconds `[i / rate, (i + 1) / rate)`."""

    values: np.ndarray
    """int32 `[units]`, not deduplicated."""
    rate: float
    """Units per second, Hz."""


@dataclass(frozen=True)
class UnitStreams:
    """What a recording becomes. Every tokenizer gives the semantic stream."""

    semantic: UnitStream
    pitch: UnitStream | None = None
    style: UnitStream | None = None

    @property
    def prosody(self) -> Prosody | None:
        """Pitch and style at each semantic unit; None where one of them is not there."""
        if self.pitch is None or self.style is None:
            return None
        rates = (self.semantic.rate, self.pitch.rate, self.style.rate)
        return prosody_at(self.pitch.values, self.style.values, rates, np.arange(len(self.semantic.values)))

    def items(self) -> list[tuple[str, UnitStream]]:
        """The streams that are there, by name."""
        return [(name, stream) for name, stream in vars(self).items() if stream is not None]


@dataclass(frozen=True)
class StreamShape:
    """What is known of a stream before anything is encoded."""

    rate: float
    """Units per second, Hz."""
    size: int
    """Units are in `[0, size)`."""


class UnitEncoding(Protocol):
    """One recording on its way in: waves in pieces of any size, units as soon as later sound cannot change them."""

    def push(self, wave: np.ndarray) -> np.ndarray:
        """`wave`: the next float32 `[samples]`, possibly none, at the tokenizer's sample rate. Gives the units that
        are complete now, int32 `[units]`. Raises `InputError` for stereo or non-finite samples."""
        ...

    def finish(self) -> np.ndarray:
        """The recording has ended: the units that are left, int32 `[units]`."""
        ...


class SpeechTokenizer(Protocol):
    """Batched equals single, always: padding and batch size never change a unit."""

    rate: float
    """Units per second, Hz."""
    vocabulary_size: int
    """Units are in `[0, vocabulary_size)`."""
    sample_rate: int
    """Hz, of the waves it encodes."""
    precision: Precision
    """bf16: networks compute in it, meant for GPUs, and a few units change; what has none ignores it."""

    @property
    def streams(self) -> dict[str, StreamShape]:
        """The streams that `encode` gives, by name, `semantic` first."""
        ...

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStreams:
        """`wave`: float32 `[samples]` in [-1, 1], at least one sample. Raises `InputError` for another sample rate,
        stereo, an empty wave or non-finite samples."""
        ...

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStreams]: ...

    def stream(self) -> UnitEncoding:
        """A new recording that is heard while it is made; all its units together are those of `encode`.

        Raises `InputError` where units depend on sound that is yet to come."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        ...

    @classmethod
    def from_pretrained(cls, folder: Path) -> SpeechTokenizer:
        """Raises `InputError` where `folder` holds no tokenizer of this kind, or files that do not fit together."""
        ...


class StreamTokenizer(Protocol):
    """What gives one stream to stand beside the semantic one: pitch or style. Its manners are `SpeechTokenizer`'s."""

    rate: float
    vocabulary_size: int
    sample_rate: int

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStream: ...

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStream]: ...

    def stream(self) -> UnitEncoding: ...

    def save_pretrained(self, folder: Path) -> None: ...

    @classmethod
    def from_pretrained(cls, folder: Path) -> StreamTokenizer: ...


def checked_wave(wave: np.ndarray, sample_rate: int, expected_rate: int, least: int = 1) -> np.ndarray:
    """`wave` as contiguous float32 `[samples]`. Raises `InputError` for another rate than `expected_rate`, stereo,
    fewer than `least` samples or non-finite ones."""
    if sample_rate != expected_rate:
        raise InputError(f"wave at {sample_rate} Hz: expected {expected_rate} Hz")
    if wave.dtype.kind != "f":
        raise InputError(f"wave of {wave.dtype}: expected float32 in [-1, 1]")
    if wave.ndim != 1 or len(wave) < least:
        wanted = f"of one channel, at least {least}" if least else "of one channel"
        raise InputError(f"wave of shape {list(wave.shape)}: expected [samples] {wanted}")
    if not np.isfinite(wave).all():
        raise InputError("wave: expected finite samples, found some that are not")
    return np.ascontiguousarray(wave, dtype=np.float32)
