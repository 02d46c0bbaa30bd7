"""The seam between tokens and sound: deduplicated units go in, a waveform comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np


class SpeechDecoder(Protocol):
    """The same units and speaker give the same samples, always."""

    sample_rate: int
    """Of the waveforms it gives, Hz."""
    vocabulary_size: int
    """Units are in `[0, vocabulary_size)`."""
    speakers: tuple[str, ...]
    """Voices it can speak with."""

    def check_speaker(self, speaker: str) -> None:
        """Raises `InputError`, naming the nearest, for a speaker it does not have."""
        ...

    def decode(self, units: np.ndarray, speaker: str | None = None) -> np.ndarray:
        """Speak `units`, int `[n]`, semantic and deduplicated; the decoder predicts how long each one lasts.

        `speaker` defaults to the first of `speakers`. Returns float32 `[samples]` in [-1, 1]. Raises `InputError`
        for no units, a unit outside the vocabulary or a speaker it does not have.
        """
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`."""
        ...
