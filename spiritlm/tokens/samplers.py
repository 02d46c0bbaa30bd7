"""How a document is cut between text and speech: a pure function of (seed, epoch, document).

Every draw is `mix(key + n * GOLDEN)`, the counter-based form of SplitMix64, with a key made from seed, epoch and the
document's own key, so the cut of a document depends on no other document, no store order and no process. All
functions are numba: the planner calls them millions of times for the lengths only.

A cut is a table of spans, int32 `[spans, 4]`: modality, first word, end word, and how the span begins.
"""

from __future__ import annotations

import math

import numpy as np

from spiritlm.tokens.compiled import compiled
from spiritlm.tokens.interleave import SPEECH, TEXT

TEXT_ONLY, SPEECH_ONLY, SPANS, POISSON, SENTENCES, ASR, TTS = range(7)
"""Kinds of cut."""
GOES_ON, NEW_DOCUMENT, ANSWER = range(3)
"""How a span begins: within a document, with a document of its own, as the answer of an ASR or TTS pair."""

CUTS_VERSION = 1
"""Another one where any document is cut otherwise than before: plans of epochs remember it."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1, _MULTIPLY_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32, _11, _1 = (np.uint64(n) for n in (30, 27, 31, 32, 11, 1))


@compiled
def mix(x: np.uint64) -> np.uint64:
    """SplitMix64's output function."""
    x = (x ^ (x >> _30)) * _MULTIPLY_1
    x = (x ^ (x >> _27)) * _MULTIPLY_2
    return x ^ (x >> _31)


@compiled
def document_key(seed: int, epoch: int, document: int) -> np.uint64:
    """The key of one document's draws in one epoch; `document` is its key in the store, int64."""
    key = mix(np.uint64(seed) + GOLDEN)
    key = mix(key + (np.uint64(epoch) + _1) * GOLDEN)
    return mix(key ^ np.uint64(document))


@compiled
def below(key: np.uint64, count: int, limit: int) -> int:
    """Draw `count` of a key: an integer in `[0, limit)`, `limit` < 2**32."""
    draw = mix(key + (np.uint64(count) + _1) * GOLDEN)
    return np.int64(((draw >> _32) * np.uint64(limit)) >> _32)  # type: ignore[return-value]


@compiled
def uniform(key: np.uint64, count: int) -> float:
    """Draw `count` of a key: a float in `[0, 1)`."""
    return np.float64(mix(key + (np.uint64(count) + _1) * GOLDEN) >> _11) / 9007199254740992.0


@compiled
def most_spans(kind: int, words: int, sentences: int) -> int:
    """Rows that hold any cut of a document."""
    if kind in (TEXT_ONLY, SPEECH_ONLY):
        return 1
    if kind == SENTENCES:
        return 2 * max(sentences, 1)
    return 2 * max(words, 1) if kind in (ASR, TTS) else words + 1


@compiled
def cut(kind: int, settings: np.ndarray, key: np.uint64, words: int, sentences: np.ndarray, spans: np.ndarray) -> int:
    """Fill `spans` (int32 `[most_spans, 4]`) and return their number; they cover `[0, words)` in order.

    `settings`: float64 `[4]`, see the functions below. `sentences`: int32, the first word of each sentence. A document
    without words is all text or all speech, and no pair.
    """
    if words == 0 and kind in (ASR, TTS):
        return 0
    if kind in (TEXT_ONLY, SPEECH_ONLY) or words == 0:
        spans[0, 0] = TEXT if kind == TEXT_ONLY else SPEECH
        spans[0, 1], spans[0, 2], spans[0, 3] = 0, words, NEW_DOCUMENT
        return 1
    if kind == SPANS:
        return _turns(settings, key, words, spans)
    if kind == POISSON:
        return _poisson(settings, key, words, spans)
    if kind == SENTENCES:
        return _sentences(settings, key, words, sentences, spans)
    return _pairs(kind, settings, key, words, sentences, spans)


@compiled
def _turns(settings: np.ndarray, key: np.uint64, words: int, spans: np.ndarray) -> int:
    """Spirit LM (section 3.1): text and speech take turns, first modality at random, lengths uniform.

    `settings`: least and most words of a text span, of a speech span. The last span holds what is left.
    """
    modality = below(key, 0, 2)
    start, count = 0, 0
    while start < words:
        least = int(settings[2 * modality])
        most = int(settings[2 * modality + 1])
        end = min(words, start + least + below(key, count + 1, most - least + 1))
        _set(spans, count, modality, start, end, GOES_ON if count else NEW_DOCUMENT)
        start, modality, count = end, 1 - modality, count + 1
    return count


@compiled
def _poisson(settings: np.ndarray, key: np.uint64, words: int, spans: np.ndarray) -> int:
    """GLM-4-Voice (synthetic interleaved data): spans of Poisson length become speech, up to a share of the words.

    `settings`: lambda, eta. The number of spoken words is `eta * words`, rounded up or down at random so that its mean
    is exact; lengths are drawn until they reach it and the last is cut. The spans stand at random between the text
    words, the cut one anywhere among them, no two in one place unless there are more spans than places.
    """
    limit = math.exp(-settings[0])
    spoken = min(words, int(settings[1] * words + uniform(key, 0)))
    draws, left, lengths = 1, spoken, 0
    while left > 0:  # the lengths lie in the spans' last column for now
        length, product = 0, uniform(key, draws)
        draws += 1
        while product > limit:
            length += 1
            product *= uniform(key, draws)
            draws += 1
        if length:
            length = min(length, left)
            spans[lengths, 3] = length
            left -= length
            lengths += 1
    return _place(key, draws, words - spoken, lengths, spans, words)


@compiled
def _place(key: np.uint64, draws: int, text_words: int, lengths: int, spans: np.ndarray, words: int) -> int:
    """Put the lengths in order into the `text_words + 1` places around the text words, chosen at random."""
    drawn = np.empty(lengths, np.int32)
    for number in range(lengths):
        drawn[number] = spans[number, 3]
    count, start, placed, run_start = 0, 0, 0, 0
    places = text_words + 1
    if lengths:
        other = below(key, draws + places, lengths)
        drawn[lengths - 1], drawn[other] = drawn[other], drawn[lengths - 1]
    for place in range(places):
        here = _chosen(key, draws + place, lengths - placed, places - place)
        if here and start > run_start:
            _set(spans, count, TEXT, run_start, start, GOES_ON if count else NEW_DOCUMENT)
            count += 1
        if here:
            end = start
            for _ in range(here):
                end += drawn[placed]
                placed += 1
            _set(spans, count, SPEECH, start, end, GOES_ON if count else NEW_DOCUMENT)
            start, count = end, count + 1
            run_start = end
        start += 1
    if run_start < words:
        _set(spans, count, TEXT, run_start, words, GOES_ON if count else NEW_DOCUMENT)
        count += 1
    return count


@compiled
def _chosen(key: np.uint64, draw: int, left: int, places: int) -> int:
    """How many of `left` spans go into the next of `places` places: selection sampling (Knuth, algorithm S)."""
    if left > places:
        return left - places + 1
    return 1 if below(key, draw, places) < left else 0


@compiled
def _sentences(settings: np.ndarray, key: np.uint64, words: int, sentences: np.ndarray, spans: np.ndarray) -> int:
    """Plain alternation: text and speech take turns at the ends of sentences, first modality at random.

    `settings`: least and most sentences of a turn.
    """
    least, most = int(settings[0]), int(settings[1])
    modality = below(key, 0, 2)
    number, count = 0, 0
    while number < len(sentences):
        after = min(len(sentences), number + least + below(key, count + 1, most - least + 1))
        end = words if after == len(sentences) else sentences[after]
        _set(spans, count, modality, sentences[number], end, GOES_ON if count else NEW_DOCUMENT)
        number, modality, count = after, 1 - modality, count + 1
    return count


@compiled
def _pairs(
    kind: int, settings: np.ndarray, key: np.uint64, words: int, sentences: np.ndarray, spans: np.ndarray
) -> int:
    """ASR and TTS pairs: runs of sentences or of words, each a document of its own that says the same words twice.

    `settings`: least and most sentences of a pair; least and most words of one, 0 for whole sentences.
    """
    by_words = settings[3] > 0
    least, most = int(settings[2 * by_words]), int(settings[2 * by_words + 1])
    pieces = words if by_words else len(sentences)
    given = SPEECH if kind == ASR else TEXT
    number, count = 0, 0
    while number < pieces:
        after = min(pieces, number + least + below(key, count, most - least + 1))
        start = number if by_words else sentences[number]
        end = words if after == pieces else (after if by_words else sentences[after])
        _set(spans, count, given, start, end, NEW_DOCUMENT)
        _set(spans, count + 1, 1 - given, start, end, ANSWER)
        number, count = after, count + 2
    return count


@compiled
def _set(spans: np.ndarray, number: int, modality: int, start: int, end: int, begins: int) -> None:
    spans[number, 0], spans[number, 1], spans[number, 2], spans[number, 3] = modality, start, end, begins
