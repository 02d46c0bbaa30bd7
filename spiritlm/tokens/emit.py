"""A cut document becomes tokens: ids, what each token is, and where it comes from.

The same function writes a row and, given an empty row, only counts, so a plan and the rows it promises cannot
disagree. Where the layout says so, semantic and pitch units are deduplicated inside a speech span; style units never
are (Spirit LM, released tokenizer). A speech
span begins with the style and the pitch in force at its start, then style and pitch units follow where they begin,
before a semantic unit that begins at the same instant; times are compared exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from spiritlm.tokens.compiled import compiled
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.layout import STREAMS
from spiritlm.tokens.samplers import ANSWER, ASR, NEW_DOCUMENT
from spiritlm.tokens.vocabulary import Vocabulary

NO_END = 1 << 40
SEMANTIC, PITCH, STYLE = 1, 2, 3
"""Token modalities beside `TEXT`; see `interleave.MODALITIES`."""
NO_WORD = -1
"""Word of a token that is in no word and no gap: markers, `<s>`, `</s>`, documents without word times."""
BEGINS = -2
"""Frame of the token that begins a document."""


class Ids(NamedTuple):
    """The ids that a document is written with; -1 where the vocabulary has none."""

    bos: int
    eos: int
    open_text: int
    close_text: int
    open_speech: int
    close_speech: int
    asr: int
    tts: int
    semantic: int
    pitch: int
    style: int
    deduplicate: bool
    """Whether runs of equal semantic units are one token."""


class Document(NamedTuple):
    """The arrays of one document, all read-only; `document_of` makes one."""

    text: np.ndarray
    """int32 `[text ids]`."""
    words: np.ndarray
    """int32 `[3 * words]`: of each word the first text id, the first unit and the end of its units."""
    sentences: np.ndarray
    """int32 `[sentences]`: the first word of each."""
    semantic: np.ndarray
    """uint16 `[units]`."""
    pitch: np.ndarray
    """uint16, empty where there is none."""
    style: np.ndarray
    """uint16, empty where there is none."""


class Row(NamedTuple):
    """Where tokens are written, each array `[tokens]`; tokens outside of it are only counted."""

    ids: np.ndarray
    """int32."""
    modality: np.ndarray
    """uint8, an index into `interleave.MODALITIES`; a marker counts to the span that it opens or closes."""
    word: np.ndarray
    """int32: word of the document, `-2 - gap` for units in a gap, or `NO_WORD`."""
    frame: np.ndarray
    """int32: index among the document's text ids, or of the unit in its stream; `BEGINS`, or -1 for markers."""


def document_of(
    text: ArrayLike = (),
    words: ArrayLike = (),
    sentences: ArrayLike = (),
    semantic: ArrayLike = (),
    pitch: ArrayLike = (),
    style: ArrayLike = (),
) -> Document:
    """A document in memory. `words`: `[words, 3]`; where words are given and no sentences, it is one sentence."""
    words = np.asarray(words, dtype=np.int32).ravel()
    if len(words) and not np.size(sentences):
        sentences = (0,)
    return Document(
        _frozen(text, np.int32),
        _frozen(words, np.int32),
        _frozen(sentences, np.int32),
        _frozen(semantic, np.uint16),
        _frozen(pitch, np.uint16),
        _frozen(style, np.uint16),
    )


def _frozen(values: ArrayLike, dtype: type) -> np.ndarray:
    array: np.ndarray = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


def ids_of(vocabulary: Vocabulary) -> Ids:
    def one(found: list[int]) -> int:
        return found[0] if found else -1

    def task(name: str, modality: int) -> int:
        marker = vocabulary.marker(name)
        return one(vocabulary.opening(modality)) if marker is None else marker

    semantic, pitch, style = (
        vocabulary.blocks[stream].start if stream in vocabulary.blocks else -1 for stream in STREAMS
    )
    return Ids(
        vocabulary.bos,
        vocabulary.eos,
        one(vocabulary.opening(TEXT)),
        one(vocabulary.closing(TEXT)),
        one(vocabulary.opening(SPEECH)),
        one(vocabulary.closing(SPEECH)),
        task("[ASR]", TEXT),
        task("[TTS]", SPEECH),
        semantic,
        pitch,
        style,
        vocabulary.layout.deduplicate,
    )


def empty_row(tokens: int) -> Row:
    return Row(
        np.empty(tokens, np.int32), np.empty(tokens, np.uint8), np.empty(tokens, np.int32), np.empty(tokens, np.int32)
    )


@compiled
def emit(
    document: Document, rates: np.ndarray, ids: Ids, kind: int, spans: np.ndarray, count: int, row: Row, at: int
) -> int:
    """Write `document` as `spans[:count]` say, from index `at` of the row on, which may lie before or behind it.

    `rates`: float64 `[3]`, units per second of semantic, pitch and style. Returns the index after the last token;
    spans without content leave no marker, a document without content no token, and what has lost its question is no
    answer. Units of a stream that the vocabulary has no ids for are left out.
    """
    modality, written, new = -1, False, True
    for number in range(count):
        of, begins = spans[number, 0], spans[number, 3]
        new = new or begins == NEW_DOCUMENT
        start, end = _bounds(document, spans[number], of)
        if start == end:
            continue
        if new:
            at = _end(ids, modality, written, row, at)
            at = _put(row, at, ids.bos, of, NO_WORD, BEGINS)
            modality, written, new = -1, True, False
        answer = begins == ANSWER and modality >= 0
        if of != modality or answer:
            at = _close(ids, modality, row, at)
            at = _open(ids, of, answer, kind, row, at)
            modality = of
        if of == SPEECH:
            at = _speech(document, rates, ids, start, end, spans[number, 1], spans[number, 2], row, at)
        else:
            at = _text(document, start, end, spans[number, 1], row, at)
    return _end(ids, modality, written, row, at)


@compiled
def _bounds(document: Document, span: np.ndarray, modality: int) -> tuple[int, int]:
    """First and end index of a span among the text ids or the semantic units.

    A gap goes with the word before it, the gap before the first word with that word.
    """
    words = len(document.words) // 3
    column = 1 if modality == SPEECH else 0
    whole = len(document.semantic) if modality == SPEECH else len(document.text)
    start = document.words[3 * span[1] + column] if span[1] > 0 else 0
    end = document.words[3 * span[2] + column] if span[2] < words else whole
    return start, end


@compiled
def _put(row: Row, at: int, id: int, modality: int, word: int, frame: int) -> int:
    if 0 <= at < len(row.ids):
        row.ids[at], row.modality[at], row.word[at], row.frame[at] = id, modality, word, frame
    return at + 1


@compiled
def _open(ids: Ids, modality: int, answer: bool, kind: int, row: Row, at: int) -> int:
    id = ids.open_speech if modality == SPEECH else ids.open_text
    if answer:
        id = ids.asr if kind == ASR else ids.tts
    return _put(row, at, id, modality, NO_WORD, -1) if id >= 0 else at


@compiled
def _close(ids: Ids, modality: int, row: Row, at: int) -> int:
    id = -1
    if modality >= 0:
        id = ids.close_speech if modality == SPEECH else ids.close_text
    return _put(row, at, id, modality, NO_WORD, -1) if id >= 0 else at


@compiled
def _end(ids: Ids, modality: int, written: bool, row: Row, at: int) -> int:
    """Close the document that is open, if one is."""
    if not written:
        return at
    at = _close(ids, modality, row, at)
    return _put(row, at, ids.eos, modality, NO_WORD, -1)


@compiled
def _text(document: Document, start: int, end: int, word: int, row: Row, at: int) -> int:
    """Text ids `[start, end)`; those outside the row are counted without being looked at."""
    words, after = len(document.words) // 3, at + end - start
    first = max(start, start - at)
    for index in range(first, min(end, first + len(row.ids) - max(at, 0))):
        while word + 1 < words and index >= document.words[3 * (word + 1)]:
            word += 1
        _put(row, at + index - start, document.text[index], TEXT, word if words else NO_WORD, index)
    return after


@compiled
def _speech(
    document: Document,
    rates: np.ndarray,
    ids: Ids,
    start: int,
    end: int,
    word: int,
    after: int,
    row: Row,
    at: int,
) -> int:
    pitch, style = _in_force(start, rates, 1), _in_force(start, rates, 2)
    pitches = len(document.pitch) if ids.pitch >= 0 else 0
    styles = len(document.style) if ids.style >= 0 else 0
    at_pitch, at_style = min(pitch, pitches - 1), min(style, styles - 1)
    last_pitch = -1
    words = len(document.words) // 3
    for index in range(start, end):
        while word < after and word < words and index >= document.words[3 * word + 2]:
            word += 1
        where = NO_WORD
        if words:
            where = word if word < words and word < after and index >= document.words[3 * word + 1] else -2 - word
        at, at_style, at_pitch, last_pitch = _slower(
            document, rates, ids, index, index == start, where, at_style, at_pitch, last_pitch, row, at
        )
        if index == start or not ids.deduplicate or document.semantic[index] != document.semantic[index - 1]:
            at = _put(row, at, ids.semantic + document.semantic[index], SEMANTIC, where, index)
    if end == len(document.semantic):  # slower units may go on behind the last semantic one
        where = -2 - words if words else NO_WORD
        at, _, _, _ = _slower(document, rates, ids, NO_END, False, where, at_style, at_pitch, last_pitch, row, at)
    return at


@compiled
def _slower(
    document: Document,
    rates: np.ndarray,
    ids: Ids,
    until: int,
    restate: bool,
    where: int,
    at_style: int,
    at_pitch: int,
    last_pitch: int,
    row: Row,
    at: int,
) -> tuple[int, int, int, int]:
    """Style and pitch units that begin up to semantic unit `until`, in order of time, style first.

    Returns where the row goes on, the next style and pitch unit, and the last pitch written.
    """
    pitches = len(document.pitch) if ids.pitch >= 0 else 0
    styles = len(document.style) if ids.style >= 0 else 0
    while True:
        style_due = 0 <= at_style < styles and at_style * rates[0] <= until * rates[2]
        pitch_due = 0 <= at_pitch < pitches and at_pitch * rates[0] <= until * rates[1]
        if style_due and (not pitch_due or at_style * rates[1] <= at_pitch * rates[2] or restate):
            at = _put(row, at, ids.style + document.style[at_style], STYLE, where, at_style)
            at_style += 1
        elif pitch_due:
            value = int(document.pitch[at_pitch])
            if value != last_pitch:
                at = _put(row, at, ids.pitch + value, PITCH, where, at_pitch)
            last_pitch = value
            at_pitch += 1
        else:
            return at, at_style, at_pitch, last_pitch


@compiled
def _in_force(start: int, rates: np.ndarray, stream: int) -> int:
    """The unit of a slower stream that covers the beginning of semantic unit `start`."""
    unit = int(start * rates[stream] / rates[0])
    while unit * rates[0] > start * rates[stream]:  # the quotient was rounded up, or below: rounded down
        unit -= 1
    while (unit + 1) * rates[0] <= start * rates[stream]:
        unit += 1
    return unit
