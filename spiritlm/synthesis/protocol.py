"""The seam between tokens and sound: units go in, a waveform comes out, at once or as the units come."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from spiritlm.errors import InputError
from spiritlm.tokens.streams import Prosody, deduplicated


class SpeechStream(Protocol):
    """One utterance, spoken while its units arrive. The pieces, put together, are what `decode` gives."""

    def push(self, units: np.ndarray, prosody: Prosody | None = None) -> np.ndarray:
        """The next units, int `[n]`, any number, and how each of them is said -> the samples that can be spoken now,
        float32 `[samples]`."""
        ...

    def finish(self) -> np.ndarray:
        """The last samples, float32 `[samples]`. The stream is over. Raises `InputError` where no unit was pushed."""
        ...


class SpeechDecoder(Protocol):
    """The same units and voice give the same samples, always."""

    sample_rate: int
    """Of the waveforms it gives, Hz."""
    vocabulary_size: int
    """Units are in `[0, vocabulary_size)`."""
    speakers: tuple[str, ...]
    """Voices it can speak with."""
    styles: tuple[str, ...]
    """Manners it can speak in, by name; none: it has one."""
    expressive: bool
    """Whether it needs to be told the pitch and style of every unit; one that does not leaves them aside."""
    deduplicated: bool
    """Whether a unit that lasts is to be given once, and the decoder predicts how long each lasts; otherwise each unit
    lasts as long as the tokenizer's rate says."""

    def decode(
        self,
        units: np.ndarray,
        speaker: str | None = None,
        style: str | None = None,
        prosody: Prosody | None = None,
        durations: np.ndarray | None = None,
    ) -> np.ndarray:
        """Speak semantic `units`, int `[n]`; `deduplicated` says which.

        Where nobody is asked for, `speaker` and `style` are the decoder's own. `style`, in an expressive decoder, is
        that of all units, whatever `prosody` says. `durations`, int `[n]` of at least 1, say how many units of time
        each lasts, instead of what is predicted. Returns float32 `[samples]` in [-1, 1]. Raises `InputError` for no
        units, a unit outside the vocabulary, a speaker or style it does not have, streams of unequal length and
        durations under 1.
        """
        ...

    def stream(self, speaker: str | None = None, style: str | None = None) -> SpeechStream:
        """Speak while units come. Raises `InputError` for a speaker or style that it does not have, and in a decoder
        that needs the whole utterance; what it returns raises it for units as `decode` does."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`."""
        ...

    @classmethod
    def from_pretrained(cls, folder: Path) -> SpeechDecoder:
        """Raises `InputError` where `folder` holds no decoder of this kind, or files that do not fit together."""
        ...


class MelDecoder(SpeechDecoder, Protocol):
    """One that speaks through mel frames."""

    def mel(self, units: np.ndarray, speaker: str | None = None, durations: np.ndarray | None = None) -> torch.Tensor:
        """The mel frames that `units` are spoken through, float32 `[frames, mels]`. Errors as in `decode`."""
        ...

    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        """Mel frames, as of `mel` -> float32 `[samples]`."""
        ...


def as_given(
    decoder: SpeechDecoder, units: np.ndarray, prosody: Prosody | None = None
) -> tuple[np.ndarray, np.ndarray | None, Prosody | None]:
    """Units int `[n]` as a tokenizer gives them, and how each is said -> as `decoder` wants them; how long each of
    these lasted, None where each lasts one unit of time; and how each is said, as it was when it began."""
    return deduplicated(units, prosody) if decoder.deduplicated else (units, None, prosody)


def checked_units(units: np.ndarray, vocabulary_size: int, kind: str = "unit") -> np.ndarray:
    """int64 `[n]`. Raises `InputError` for none and for one outside of the vocabulary."""
    units = np.asarray(units)
    if units.ndim != 1 or not len(units):
        raise InputError(f"{kind}s of shape {list(units.shape)}: expected [n] with at least one {kind} to speak")
    if units.dtype.kind not in "iu":
        raise InputError(f"{kind}s of type {units.dtype}: expected integers")
    units = units.astype(np.int64)
    outside = units[(units < 0) | (units >= vocabulary_size)]
    if len(outside):
        raise InputError(f"{kind} {outside[0]} is outside the vocabulary: expected 0 to {vocabulary_size - 1}")
    return units


def checked_durations(durations: np.ndarray, units: int) -> np.ndarray:
    """int64 `[units]`. Raises `InputError` for another number of them, or one that is under 1."""
    durations = np.asarray(durations)
    if durations.shape != (units,):
        raise InputError(f"{units} units and durations of shape {list(durations.shape)}: expected as many of each")
    if durations.dtype.kind not in "iu" or durations.min() < 1:
        raise InputError("durations: expected integers of at least 1")
    return durations.astype(np.int64)


def place_of(name: str | None, names: Sequence[str], kind: str) -> int:
    """Place in `names`, the first where `None`. Raises `InputError`, naming the nearest, for one that is absent;
    `kind`: speaker or style."""
    if name is None:
        return 0
    if not names:
        raise InputError(f"{kind} {name!r}: the decoder has no {kind}s to choose from")
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise InputError(f"{kind} {name!r} is not one of the decoder's {len(names)}; the nearest is {nearest!r}")
    return names.index(name)


def check_voice(decoder: SpeechDecoder, speaker: str | None, style: str | None = None) -> None:
    """Raises `InputError`, naming the nearest, for a speaker or a style that the decoder does not have."""
    place_of(speaker, decoder.speakers, "speaker")
    place_of(style, decoder.styles, "style")
