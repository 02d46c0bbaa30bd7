"""Interleaving as a public trainer does it (slamkit), to compare with: which words are spoken, and with which units.

The project's own cuts are `samplers` and `emit`. They differ on purpose: here the share of spoken words overshoots
(0.33 for 0.3 on documents of 50 to 400 words, 0.56 on short ones) and stalls at 0.91 for 1.0, and units at the edge of
a word can be in no word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

TEXT_MARK, SPEECH_MARK, UNIT = "<text>", "<speech>", "<Un{}>"


class Word(NamedTuple):
    """A word with its own spacing and its time in seconds."""

    text: str
    start: float
    end: float


def poisson_words(words: int, mean: float, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which words are spoken, bool `[words]`.

    Spans are drawn until `ceil(words * share)` words are spoken or no word can start one. A span starts at a uniform
    free word and has a Poisson length, cut at the end of the document; one that meets another span is drawn again.
    The word behind a span, which may have no word at all, starts none. Instead of drawing again, start and length are
    drawn given that they fit, which is the same in distribution.
    """
    fits = _poisson_cdf(mean)  # [length] -> probability of at most that length
    spoken, closed = np.zeros(words, dtype=bool), np.zeros(words + 1, dtype=bool)
    while spoken.sum() < math.ceil(words * share):
        free = np.flatnonzero(~spoken & ~closed[:words])
        if not len(free):
            break
        taken = np.append(np.flatnonzero(spoken), words)
        behind = taken[np.searchsorted(taken, free)]
        room = np.where(behind == words, len(fits) - 1, np.minimum(behind - free, len(fits) - 1))
        weights = np.cumsum(fits[room])
        chosen = np.searchsorted(weights, rng.random() * weights[-1], side="right")
        length = int(np.searchsorted(fits, rng.random() * fits[room[chosen]], side="right"))
        end = min(words, int(free[chosen]) + length)
        spoken[free[chosen] : end] = True
        closed[end] = True
    return spoken


def _poisson_cdf(mean: float) -> np.ndarray:
    """Float64 `[lengths]`, until nothing is left above it."""
    lengths = np.arange(int(mean + 12 * math.sqrt(mean) + 20))
    logs = lengths * math.log(mean) - mean - np.cumsum(np.log(np.maximum(lengths, 1)))
    return np.cumsum(np.exp(logs))


def units_by_words(
    units: Sequence[int], durations: Sequence[int], frame: float, words: Sequence[Word], spoken: Sequence[bool]
) -> str:
    """Text and units in turns, a marker at each change and at the beginning.

    `durations`: frames of each unit, `frame` seconds long. A run of spoken words takes the units whose end lies within
    it, ends included: a unit that began before the run is in, a unit that goes on behind it is out.
    """
    ends = np.cumsum(durations) * frame
    string = ""
    for modality, group in groupby(range(len(words)), key=lambda number: bool(spoken[number])):
        run = [words[number] for number in group]
        if modality:
            first = int(np.searchsorted(ends, run[0].start, side="left"))
            last = int(np.searchsorted(ends, run[-1].end, side="right"))
            string += SPEECH_MARK + "".join(UNIT.format(unit) for unit in units[first:last])
        else:
            string += TEXT_MARK + "".join(word.text for word in run)
    return string
