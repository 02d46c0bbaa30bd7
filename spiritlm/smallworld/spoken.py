"""What a synthesizer gives back: sound, and when each word and phone is heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A word, several words that share one interval, or a phone; times in seconds from the start of the wave."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Spoken:
    """One utterance. The texts of `words`, joined by spaces, are the text that was asked for."""

    wave: np.ndarray
    """float32 `[samples]` in [-1, 1]."""
    sample_rate: int
    words: tuple[Interval, ...]
    """In order of time. One interval over the whole sentence where the synthesizer's words could not be matched."""
    phones: tuple[Interval, ...]
    """Without pauses, in the synthesizer's own alphabet."""


def whole_sentence(text: str, phones: tuple[Interval, ...], duration: float) -> tuple[Interval, ...]:
    """The only word times left where words cannot be told apart."""
    if not phones:
        return (Interval(text, 0.0, duration),)
    return (Interval(text, phones[0].start, phones[-1].end),)
