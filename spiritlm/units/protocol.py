"""The seam between sound and tokens: a waveform goes in, named streams of units come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


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

    def items(self) -> list[tuple[str, UnitStream]]:
        """The streams that are there, by name."""
        return [(name, stream) for name, stream in vars(self).items() if stream is not None]


class SpeechTokenizer(Protocol):
    """Batched equals single, always: padding and batch size never change a unit."""

    rate: float
    """Units per second, Hz."""
    vocabulary_size: int
    """Units are in `[0, vocabulary_size)`."""
    sample_rate: int
    """Hz, of the waves it encodes."""

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStreams:
        """`wave`: float32 `[samples]` in [-1, 1]. Raises `InputError` for stereo or non-finite samples."""
        ...

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStreams]: ...

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`."""
        ...
