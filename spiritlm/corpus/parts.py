"""The parts of a recording that become documents of a store: what is said in one go.

A recording whose sentences follow each other is one part, pauses and all. Where nothing is written down for long
(the middle of an interview, a NeMo manifest of a few lines in an hour), it is cut, so that no word is followed by
minutes of units that nobody transcribed. A recording without a transcript has a part for each stretch of speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word
from spiritlm.errors import InputError

MARGIN = 0.25
"""Seconds of a long pause that are kept on either side of a part, at most."""


@dataclass(frozen=True)
class Part:
    """Seconds `[start, end)` of a recording."""

    id: str
    """The recording's own where it has one part only, else with the part's number."""
    start: float
    end: float
    sentences: tuple[tuple[Word, ...], ...]
    """Words with times from the start of the part; empty where it has no transcript. A sentence that nobody has
    aligned is one long word."""

    @property
    def words(self) -> list[Word]:
        return [word for sentence in self.sentences for word in sentence]


def parts_of(document: SpokenDocument, max_pause: float, untranscribed: bool, tolerance: float) -> list[Part]:
    """Cut a recording at pauses of more than `max_pause` seconds between sentences.

    `untranscribed`: whether a recording without any text is taken. Raises `InputError` for one that is not, and for
    words that are out of order or end more than `tolerance` seconds behind the recording.
    """
    told = [(sentence, _words(sentence)) for sentence in document.sentences if sentence.text.strip()]
    if not told and not untranscribed:
        raise InputError("empty transcript (encode takes such recordings as speech only with untranscribed=true)")
    if not told:
        bounds = [(s.start, min(s.end, document.duration)) for s in document.sentences if s.start < document.duration]
        return [Part(f"{document.id}-{n:04d}", a, b, ()) for n, (a, b) in enumerate(bounds) if a < b]
    _check_times([word for _, words in told for word in words], document.duration + tolerance)
    groups = _groups([words for _, words in told], max_pause)
    return [_part(document, groups, number, max_pause) for number in range(len(groups))]


def _words(sentence: Sentence) -> tuple[Word, ...]:
    return sentence.words or (Word(sentence.text, sentence.start, sentence.end),)


def _check_times(words: Sequence[Word], end: float) -> None:
    starts, ends = np.array([[word.start, word.end] for word in words]).T
    if np.any(np.diff(starts) < 0) or np.any(ends < starts):
        raise InputError("word times are not in order")
    if starts[0] < 0 or ends.max() > end:
        raise InputError(f"word times do not lie within its {end:.2f} s")


def _groups(sentences: Sequence[tuple[Word, ...]], max_pause: float) -> list[list[tuple[Word, ...]]]:
    groups = [[sentences[0]]]
    for before, after in pairwise(sentences):
        if after[0].start - before[-1].end > max_pause:
            groups.append([])
        groups[-1].append(after)
    return groups


def _part(document: SpokenDocument, groups: Sequence[list[tuple[Word, ...]]], number: int, max_pause: float) -> Part:
    sentences = groups[number]
    first, last = sentences[0][0].start, sentences[-1][-1].end
    margin = min(MARGIN, max_pause / 2)
    start = 0.0 if number == 0 and first <= max_pause else max(0.0, first - margin)
    to_the_end = number == len(groups) - 1 and document.duration - last <= max_pause
    end = document.duration if to_the_end else last + margin
    id = document.id if len(groups) == 1 else f"{document.id}-{number:04d}"
    moved = tuple(tuple(Word(w.text, w.start - start, w.end - start) for w in sentence) for sentence in sentences)
    return Part(id, start, end, moved)
