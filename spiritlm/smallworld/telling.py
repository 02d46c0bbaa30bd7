"""Sentences told aloud as one recording, with the times of words and phones in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spiritlm.smallworld.spoken import Interval
from spiritlm.smallworld.voices import SAMPLE_RATE, speak

EDGE = 0.1
"""Seconds of silence before the first and after the last phone."""
PAUSE = 0.25
"""Seconds from the last phone of a sentence to the first of the next."""


@dataclass(frozen=True)
class Telling:
    """What is to be recorded."""

    id: str
    sentences: tuple[str, ...]
    voice: str
    mood: str
    scenario: str


@dataclass(frozen=True)
class Recording:
    wave: np.ndarray
    """float32 `[samples]` at 16 kHz."""
    sentences: tuple[tuple[Interval, ...], ...]
    """Words of each sentence."""
    phones: tuple[Interval, ...]


def record(telling: Telling) -> Recording:
    """Speak the sentences one after the other, each trimmed to its phones."""
    waves = [np.zeros(round(EDGE * SAMPLE_RATE), np.float32)]
    sentences: list[tuple[Interval, ...]] = []
    phones: list[Interval] = []
    for number, text in enumerate(telling.sentences):
        spoken = speak(text, telling.voice, telling.mood)
        start, end = spoken.phones[0].start, spoken.phones[-1].end
        first = round(start * SAMPLE_RATE)
        offset = sum(map(len, waves)) / SAMPLE_RATE - first / SAMPLE_RATE
        waves.append(spoken.wave[first : round(end * SAMPLE_RATE)])
        sentences.append(_moved(spoken.words, offset))
        phones += _moved(spoken.phones, offset)
        rest = EDGE if number == len(telling.sentences) - 1 else PAUSE
        waves.append(np.zeros(round(rest * SAMPLE_RATE), np.float32))
    return Recording(np.concatenate(waves), tuple(sentences), tuple(phones))


def _moved(intervals: tuple[Interval, ...], offset: float) -> tuple[Interval, ...]:
    return tuple(Interval(i.text, round(i.start + offset, 4), round(i.end + offset, 4)) for i in intervals)
