"""When each word of a transcript is said.

The words of a transcript and the log-probabilities of a CTC model come in; each word with its interval and a score
goes out. A word starts with the first frame of its first letter and ends with the last frame of its last one, less
what the model is known to lag behind the sound, and at the latest where the next word starts. What lies between two
words belongs to neither.

What a model can spell is decided letter by letter: case is ignored, an accent the model does not know is dropped
(`café` is `cafe`), typographic apostrophes are `'`, and punctuation is left out. A word with a letter, digit or spoken
sign (`%`) that is left over is not spelt at all: a wildcard takes its place, which takes any sound there is between
the words beside it; several such words in a row share one wildcard, in proportion to their lengths. A "word" of
punctuation only has no sound: it gets an interval of no length where the word before it ends.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spiritlm.alignment.viterbi import ctc_viterbi
from spiritlm.errors import InputError

SPOKEN_SIGNS = "%&$€£+=@#°"
APOSTROPHES = "’‘ʼ`´"


@dataclass(frozen=True)
class AlignedWord:
    text: str
    """As in the transcript."""
    start: float
    """Seconds from the start of the recording."""
    end: float
    score: float
    """Mean log-probability of a frame of the word: 0 is certain. A wildcard's is 0."""


@dataclass(frozen=True)
class Lag:
    """How much a model is late: it may say a letter in the middle of its sound, or when it has heard enough of it."""

    start: float = 0.0
    """Seconds from where a word begins to sound to the first frame of its first letter."""
    end: float = 0.0
    """Seconds from the last frame of its last letter to where it ends."""


@dataclass(frozen=True)
class Alphabet:
    """What the columns of a model's log-probabilities stand for."""

    blank: int
    separator: int | None
    """Said between words, if the model knows such a symbol."""
    letters: dict[str, int]
    """Lower-case letters and their ids."""

    def spell(self, word: str) -> list[int] | None:
        """Ids of the letters of a word; none for punctuation, None for a word that cannot be spelt."""
        ids: list[int] = []
        for character in _characters(word):
            known = [c for c in (character, *unicodedata.normalize("NFKD", character)) if c in self.letters]
            if known:
                ids.append(self.letters[known[0]])
            elif character in SPOKEN_SIGNS or unicodedata.category(character)[0] in "LN":
                return None
        return ids


def _characters(word: str) -> str:
    text = unicodedata.normalize("NFC", word).lower()
    return "".join("'" if character in APOSTROPHES else character for character in text)


@dataclass(frozen=True)
class _Piece:
    """Words that are aligned as one: a word that is spelt, or neighbours that share a wildcard."""

    words: tuple[int, ...]
    ids: tuple[int, ...]
    """Empty for a wildcard."""


def align_words(
    texts: Sequence[str],
    log_probs: np.ndarray,
    alphabet: Alphabet,
    frame_rate: float,
    offset: float = 0.0,
    lag: Lag = Lag(),
) -> list[AlignedWord]:
    """The words of a stretch of sound, in order, none starting before `offset`.

    `log_probs`: float32 `[frames, vocabulary]` at `frame_rate` Hz; `offset`: where the first frame starts, seconds.
    Raises `InputError` where no word has a sound, or the words do not fit into the frames.
    """
    pieces = _pieces([alphabet.spell(text) for text in texts])
    if not pieces:
        raise InputError("empty transcript")
    frames, wildcard = log_probs.shape
    labels, firsts, lasts = _labels(pieces, alphabet.separator, wildcard)
    if wildcard in labels:  # in every frame as likely as the best symbol
        log_probs = np.concatenate([log_probs, log_probs.max(axis=1, keepdims=True)], axis=1)
    path = ctc_viterbi(log_probs, labels, alphabet.blank)
    begun, ended = path.first[firsts], path.last[lasts] + 1
    starts = np.maximum(begun / frame_rate - lag.start, 0.0)
    ends = ended / frame_rate + lag.end
    following = np.append(starts[1:], frames / frame_rate)
    ends = np.maximum(np.minimum(ends, following), starts)
    found: dict[int, AlignedWord] = {}
    for number, piece in enumerate(pieces):
        start, end, score = starts[number], ends[number], 0.0
        if piece.ids:
            score = float(path.frame_scores[begun[number] : ended[number]].mean())
        else:  # what its neighbours leave
            start, end = ends[number - 1] if number else 0.0, following[number]
        parts = [texts[word] for word in piece.words]
        edges = _edges(parts, offset + start, offset + end)
        for word, text, left, right in zip(piece.words, parts, edges[:-1], edges[1:], strict=True):
            found[word] = AlignedWord(text, round(left, 4), round(right, 4), score)
    return _with_punctuation(texts, found, round(offset, 4))


def _pieces(spelt: Sequence[list[int] | None]) -> list[_Piece]:
    pieces: list[_Piece] = []
    for number, ids in enumerate(spelt):
        if ids:
            pieces.append(_Piece((number,), tuple(ids)))
        elif ids is None and pieces and not pieces[-1].ids:
            pieces[-1] = _Piece((*pieces[-1].words, number), ())
        elif ids is None:
            pieces.append(_Piece((number,), ()))
    return pieces


def _labels(
    pieces: Sequence[_Piece], separator: int | None, wildcard: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of all pieces, int32 `[labels]`, and the first and the last label of each piece, int64 `[pieces]`."""
    labels: list[int] = []
    firsts, lasts = [], []
    for piece in pieces:
        if labels and separator is not None:
            labels.append(separator)
        firsts.append(len(labels))
        labels += piece.ids or (wildcard,)
        lasts.append(len(labels) - 1)
    return np.array(labels, np.int32), np.array(firsts), np.array(lasts)


def _edges(texts: Sequence[str], start: float, end: float) -> list[float]:
    """`[start, end]` cut in proportion to the lengths of `texts`."""
    lengths = np.cumsum([0, *map(len, texts)])
    return [float(edge) for edge in start + (end - start) * lengths / lengths[-1]]


def _with_punctuation(texts: Sequence[str], found: dict[int, AlignedWord], start: float) -> list[AlignedWord]:
    """All words in order; one without a sound stands where the word before it ends."""
    words: list[AlignedWord] = []
    for number, text in enumerate(texts):
        at = words[-1].end if words else start
        words.append(found.get(number) or AlignedWord(text, at, at, 0.0))
    return words


def windows(
    starts: Sequence[float], ends: Sequence[float], duration: float, margin: float
) -> list[tuple[float, float]]:
    """The stretch of the recording in which each sentence is looked for, seconds.

    `margin` seconds more than the sentence on either side, but not beyond the middle between two sentences, nor
    beyond the recording. Sentences are in order of time.
    """
    middles = [(end + start) / 2 for end, start in zip(ends[:-1], starts[1:], strict=True)]
    return [
        (min(max(start - margin, low), max(0.0, start)), max(min(end + margin, high), min(end, duration)))
        for start, end, low, high in zip(starts, ends, [0.0, *middles], [*middles, duration], strict=True)
    ]


def respell(texts: Sequence[str], words: Sequence[AlignedWord]) -> list[AlignedWord]:
    """The words of a transcript with the times of `words`, which another aligner spelt in its own way.

    Both are compared letter by letter, without case and punctuation, so that words may be split or joined
    differently; inside an interval letters take equal time. Raises `InputError` where the letters differ.
    """
    letters, theirs = [_letters(text) for text in texts], [_letters(word.text) for word in words]
    ours, found = "".join(letters), "".join(theirs)
    if ours != found or not ours:
        at = next((i for i, (a, b) in enumerate(zip(ours, found, strict=False)) if a != b), min(len(ours), len(found)))
        raise InputError(f"the alignment says {found[at:][:20]!r} where the transcript has {ours[at:][:20]!r}")
    edges = [_edges(part, word.start, word.end) for part, word in zip(theirs, words, strict=True) if part]
    starts = [edge for word in edges for edge in word[:-1]]
    ends = [edge for word in edges for edge in word[1:]]
    scores = [word.score for part, word in zip(theirs, words, strict=True) for _ in part]
    spoken: dict[int, AlignedWord] = {}
    first = 0
    for number, part in enumerate(letters):
        last = first + len(part) - 1
        if part:
            score = float(np.mean(scores[first : last + 1]))
            spoken[number] = AlignedWord(texts[number], round(starts[first], 4), round(ends[last], 4), score)
        first = last + 1
    return _with_punctuation(texts, spoken, words[0].start)


def _letters(word: str) -> str:
    return "".join(c for c in _characters(word) if unicodedata.category(c)[0] in "LN" or c in SPOKEN_SIGNS)


@dataclass(frozen=True)
class StartErrors:
    """How far found word starts lie from true ones."""

    words: int
    median_ms: float
    p95_ms: float


def start_errors(found: ArrayLike, true: ArrayLike) -> StartErrors:
    """Of the absolute differences; `found`, `true`: seconds `[words]`. Without words, the figures are 0."""
    errors = 1000 * np.abs(np.asarray(found, np.float64) - np.asarray(true, np.float64))
    if not len(errors):
        return StartErrors(0, 0.0, 0.0)
    return StartErrors(len(errors), round(float(np.median(errors)), 1), round(float(np.percentile(errors, 95)), 1))
