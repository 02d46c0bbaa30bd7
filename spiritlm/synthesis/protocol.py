"""The seam between tokens and sound: units go in, a waveform comes out, at once or as the units come."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from spiritlm.errors import InputError
from spiritlm.tokens.interleave import deduplicate


class SpeechStream(Protocol):
    """One utterance, spoken while its units arrive. The pieces, put together, are what `decode` gives."""

    def push(self, units: np.ndarray) -> np.ndarray:
        """The next units, int `[n]`, any number -> the samples that can be spoken now, float32 `[samples]`."""
        ...

    def finish(self) -> np.ndarray:
        """The last samples, float32 `[samples]`. The stream is over. Raises `InputError` where no unit was pushed."""
        ...


class SpeechDecoder(Protocol):
    """The same units and speaker give the same samples, always."""

    sample_rate: int
    """Of the waveforms it gives, Hz."""
    vocabulary_size: int
    """Units are in `[0, vocabulary_size)`."""
    speakers: tuple[str, ...]
    """Voices it can speak with."""
    deduplicated: bool
    """Whether a unit that lasts is to be given once, and the decoder predicts how long each lasts; otherwise each unit
    lasts as long as the tokenizer's rate says."""

    def check_speaker(self, speaker: str) -> None:
        """Raises `InputError`, naming the nearest, for a speaker it does not have."""
        ...

    def decode(self, units: np.ndarray, speaker: str | None = None) -> np.ndarray:
        """Speak semantic `units`, int `[n]`; `deduplicated` says which.

        `speaker` defaults to the first of `speakers`. Returns float32 `[samples]` in [-1, 1]. Raises `InputError`
        for no units, a unit outside the vocabulary or a speaker it does not have.
        """
        ...

    def mel(self, units: np.ndarray, speaker: str | None = None, durations: np.ndarray | None = None) -> torch.Tensor:
        """The mel frames that `units` are spoken through, float32 `[frames, mels]`. `durations`, int `[n]` of at least
        1, replace predicted ones. Errors as in `decode`."""
        ...

    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        """Mel frames, as of `mel` -> float32 `[samples]`."""
        ...

    def stream(self, speaker: str | None = None) -> SpeechStream:
        """Speak while units come. Raises `InputError` for a speaker that it does not have, and in a decoder that needs
        the whole utterance; what it returns raises it for a unit outside the vocabulary, and for no units at all."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`."""
        ...

    @classmethod
    def from_pretrained(cls, folder: Path) -> SpeechDecoder:
        """Raises `InputError` where `folder` holds no decoder of this kind, or files that do not fit together."""
        ...


def as_given(decoder: SpeechDecoder, units: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Units int `[n]` as a tokenizer gives them -> as `decoder` wants them, and how long each of these lasted; None
    where each lasts one unit of time."""
    return deduplicate(units) if decoder.deduplicated else (units, None)


def checked_units(units: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """int64 `[n]`. Raises `InputError` for none and for one outside of the vocabulary."""
    units = np.asarray(units)
    if units.ndim != 1 or not len(units):
        raise InputError(f"units of shape {list(units.shape)}: expected [n] with at least one unit to speak")
    if units.dtype.kind not in "iu":
        raise InputError(f"units of type {units.dtype}: expected integers")
    units = units.astype(np.int64)
    outside = units[(units < 0) | (units >= vocabulary_size)]
    if len(outside):
        raise InputError(f"unit {outside[0]} is outside the vocabulary: expected 0 to {vocabulary_size - 1}")
    return units


def speaker_number(speaker: str | None, speakers: Sequence[str]) -> int:
    """Place in `speakers`, the first where `None`. Raises `InputError`, naming the nearest, for one that is absent."""
    if speaker is None:
        return 0
    if speaker not in speakers:
        nearest = difflib.get_close_matches(speaker, speakers, n=1, cutoff=0.0)[0]
        raise InputError(f"speaker {speaker!r} is not one of the decoder's {len(speakers)}; the nearest is {nearest!r}")
    return speakers.index(speaker)
