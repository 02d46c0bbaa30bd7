"""Sentences told aloud as one recording, with the times of words, phones and moods in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spiritlm.smallworld.scenarios import SCENARIOS
from spiritlm.smallworld.spoken import Interval
from spiritlm.smallworld.stories import ClozeItem
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
    moods: tuple[str, ...]
    """Of each sentence."""
    scenario: str


class MoodSpan(NamedTuple):
    """A stretch of a recording in one mood; seconds."""

    mood: str
    start: float
    end: float


@dataclass(frozen=True)
class Recording:
    wave: np.ndarray
    """float32 `[samples]` at 16 kHz."""
    sentences: tuple[tuple[Interval, ...], ...]
    """Words of each sentence."""
    phones: tuple[Interval, ...]
    moods: tuple[MoodSpan, ...]
    """From the start of the recording to its end, without gaps; moods change in the middle of a pause."""


def cloze_tellings(id: str, item: ClozeItem, voice: str, mood: str) -> tuple[Telling, ...]:
    """`ID_mutual`, `ID_correct` and `ID_incorrect`, as the public cross-modal layouts name them; all in one voice and
    mood."""
    scenario = SCENARIOS[item.story.scenario].place
    parts = {"mutual": item.story.beginning, "correct": (item.story.ending,), "incorrect": (item.wrong_ending,)}
    return tuple(
        Telling(f"{id}_{name}", sentences, voice, (mood,) * len(sentences), scenario)
        for name, sentences in parts.items()
    )


def record(telling: Telling) -> Recording:
    """Speak the sentences one after the other, each trimmed to its phones."""
    waves = [np.zeros(round(EDGE * SAMPLE_RATE), np.float32)]
    sentences: list[tuple[Interval, ...]] = []
    phones: list[Interval] = []
    ends: list[float] = []
    for number, (text, mood) in enumerate(zip(telling.sentences, telling.moods, strict=True)):
        spoken = speak(text, telling.voice, mood)
        start, end = spoken.phones[0].start, spoken.phones[-1].end
        first = round(start * SAMPLE_RATE)
        offset = sum(map(len, waves)) / SAMPLE_RATE - first / SAMPLE_RATE
        waves.append(spoken.wave[first : round(end * SAMPLE_RATE)])
        sentences.append(_moved(spoken.words, offset))
        phones += _moved(spoken.phones, offset)
        is_last = number == len(telling.sentences) - 1
        waves.append(np.zeros(round((EDGE if is_last else PAUSE) * SAMPLE_RATE), np.float32))
        ends.append(sum(map(len, waves)) / SAMPLE_RATE - (0.0 if is_last else PAUSE / 2))
    return Recording(np.concatenate(waves), tuple(sentences), tuple(phones), mood_spans(telling.moods, ends))


def mood_spans(moods: Sequence[str], ends: Sequence[float]) -> tuple[MoodSpan, ...]:
    """One span for each run of sentences in the same mood; `ends`: seconds at which each sentence gives way."""
    spans: list[MoodSpan] = []
    for mood, end in zip(moods, ends, strict=True):
        if spans and spans[-1].mood == mood:
            spans[-1] = spans[-1]._replace(end=end)
        else:
            spans.append(MoodSpan(mood, spans[-1].end if spans else 0.0, end))
    return tuple(spans)


def _moved(intervals: tuple[Interval, ...], offset: float) -> tuple[Interval, ...]:
    return tuple(Interval(i.text, round(i.start + offset, 4), round(i.end + offset, 4)) for i in intervals)
