"""Where a document changes between text and speech, and which units belong to which word."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TEXT, SPEECH = 0, 1
MODALITIES = ("text", "semantic")


class Span(NamedTuple):
    """Words `[start, end)` of a document, to be written or spoken."""

    modality: int
    start: int
    end: int


def alternate(
    words: int, text_words: tuple[int, int], speech_words: tuple[int, int], rng: np.random.Generator
) -> list[Span]:
    """Spirit LM's interleaving (section 3.1): text and speech take turns, lengths uniform, first modality at random.

    `text_words` and `speech_words` are the least and the most words of a span (the paper: 10-30 and 5-15);
    the last span holds what is left. The spans cover `[0, words)` in order, without gaps.
    """
    spans: list[Span] = []
    modality = int(rng.integers(2))
    start = 0
    while start < words:
        least, most = speech_words if modality == SPEECH else text_words
        end = min(words, start + int(rng.integers(least, most + 1)))
        spans.append(Span(modality, start, end))
        start, modality = end, 1 - modality
    return spans


def word_boundaries(starts: np.ndarray, units: int, rate: float) -> np.ndarray:
    """Partition the units of a recording among its words.

    `starts`: seconds `[words]`, non-decreasing. Unit `i` (centre `(i + 0.5) / rate`) goes to the last word that
    has started by then; what comes before the first word goes to the first word, so pauses belong to the word
    before them. Returns int64 `[words + 1]`, from 0 to `units`, non-decreasing: each unit is in exactly one word.
    """
    boundaries = np.empty(len(starts) + 1, dtype=np.int64)
    boundaries[:-1] = np.clip(np.ceil(np.asarray(starts, dtype=np.float64) * rate - 0.5), 0, units)
    boundaries[0], boundaries[-1] = 0, units
    return boundaries


def deduplicate(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge runs of equal units `[n]` -> values `[runs]`, run lengths int64 `[runs]`."""
    if not len(units):
        return units, np.zeros(0, dtype=np.int64)
    first = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
    return units[first], np.diff(np.append(first, len(units)))
