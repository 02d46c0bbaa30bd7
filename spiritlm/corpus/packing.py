"""Documents of a split back to back, in numba: how long each is when it is cut, and rows of their tokens.

Both functions take documents in the order that they are given, cut each by a key made from (seed, epoch, document),
and use the very same code, so that lengths and rows agree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spiritlm.corpus.store import DTYPES, DocumentStore
from spiritlm.tokens.compiled import compiled
from spiritlm.tokens.emit import Document, Ids, Row, emit, empty_row
from spiritlm.tokens.samplers import ASR, SENTENCES, TTS, cut, document_key, most_spans


class Split(NamedTuple):
    """All documents of a split: of each stream the values, and the byte where each document's begin."""

    text: np.ndarray
    text_at: np.ndarray
    words: np.ndarray
    words_at: np.ndarray
    sentences: np.ndarray
    sentences_at: np.ndarray
    semantic: np.ndarray
    semantic_at: np.ndarray
    pitch: np.ndarray
    pitch_at: np.ndarray
    style: np.ndarray
    style_at: np.ndarray
    keys: np.ndarray
    """int64 `[documents]`."""
    rates: np.ndarray
    """float64 `[3]`, Hz."""


class Drawing(NamedTuple):
    """What the cuts follow from, beside the documents."""

    kind: int
    settings: np.ndarray
    """float64 `[4]`; see `samplers.cut`."""
    seed: int
    epoch: int


def split_of(store: DocumentStore) -> Split:
    streams = store.files.streams
    arrays = [part for name in DTYPES for part in (streams[name].values, streams[name].pointers)]
    return Split(*arrays, store.files.keys, store.rates)  # type: ignore[call-arg]


@compiled
def _slice(values: np.ndarray, at: np.ndarray, document: int, itemsize: int) -> np.ndarray:
    """Of an empty stream nothing else is read: a page that is not touched is not fetched."""
    if len(values) == 0:
        return values
    end = at[document + 1] // itemsize if document + 1 < len(at) else len(values)
    return values[at[document] // itemsize : end]


@compiled
def _document(split: Split, number: int, kind: int) -> Document:
    sentences = split.sentences[:0]
    if kind in (SENTENCES, ASR, TTS):
        sentences = _slice(split.sentences, split.sentences_at, number, 4)
    return Document(
        _slice(split.text, split.text_at, number, 4),
        _slice(split.words, split.words_at, number, 4),
        sentences,
        _slice(split.semantic, split.semantic_at, number, 2),
        _slice(split.pitch, split.pitch_at, number, 2),
        _slice(split.style, split.style_at, number, 2),
    )


@compiled
def _emit_document(split: Split, number: int, ids: Ids, drawing: Drawing, row: Row, at: int) -> int:
    document = _document(split, number, drawing.kind)
    words = len(document.words) // 3
    spans = np.empty((most_spans(drawing.kind, words, len(document.sentences)), 4), np.int32)
    key = document_key(drawing.seed, drawing.epoch, split.keys[number])
    count = cut(drawing.kind, drawing.settings, key, words, document.sentences, spans)
    return emit(document, split.rates, ids, drawing.kind, spans, count, row, at)


@compiled
def measure(split: Split, ids: Ids, drawing: Drawing, nothing: Row, first: int, lengths: np.ndarray) -> None:
    """Fill `lengths` (int64) with the tokens of documents `first`, `first + 1`, ...; `nothing` is an empty row."""
    for number in range(len(lengths)):
        lengths[number] = _emit_document(split, first + number, ids, drawing, nothing, 0)


@compiled
def fill(
    split: Split,
    ids: Ids,
    drawing: Drawing,
    order: np.ndarray,
    place: int,
    skip: int,
    row: Row,
    documents: np.ndarray,
) -> int:
    """Fill `row` with documents `order[place:]`, leaving out the first `skip` tokens of the first one.

    `documents`: int32, takes the document of each token. Returns the tokens written, fewer than the row holds
    where the documents end before it.
    """
    at = -skip
    while at < len(row.ids) and place < len(order):
        before, at = at, _emit_document(split, order[place], ids, drawing, row, at)
        documents[max(before, 0) : min(max(at, 0), len(row.ids))] = order[place]
        place += 1
    return min(at, len(row.ids))


NOTHING = empty_row(0)
