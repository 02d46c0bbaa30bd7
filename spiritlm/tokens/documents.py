"""Whole documents as token sequences, and generated sequences read back.

A sequence is `<s>`, the marker of the first modality, a marker at each change of modality, then `</s>`:

    text         <s>[Text] It rained. </s>
    speech       <s>[Speech][Hu5][Hu81] ... </s>
    interleaved  <s>[Text] It [Speech][Hu81][Hu7] ... </s>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spiritlm.tokens.emit import Document, Row, emit, empty_row, ids_of
from spiritlm.tokens.interleave import SPEECH, TEXT, Span
from spiritlm.tokens.samplers import ANSWER, ASR, GOES_ON, NEW_DOCUMENT, SPANS, TTS
from spiritlm.tokens.streams import Prosody, deduplicated, in_force
from spiritlm.tokens.vocabulary import Vocabulary

RATES = (25.0, 12.5, 1.0)
"""Units per second of Spirit LM's streams, Hz: semantic, pitch, style."""


@dataclass(frozen=True)
class TokenSequence:
    """Ids and their modalities, of equal length."""

    ids: np.ndarray
    """int64 `[n]`."""
    modality: np.ndarray
    """uint8 `[n]`, an index into `interleave.MODALITIES`."""

    def __len__(self) -> int:
        return len(self.ids)


def words_of(document: Document) -> int:
    return len(document.words) // 3


def whole(document: Document, modality: int) -> list[Span]:
    """The cut that tells all of a document in one modality."""
    return [Span(modality, 0, words_of(document))]


def compose(
    document: Document, spans: Sequence[Span], vocabulary: Vocabulary, rates: Sequence[float] = RATES
) -> TokenSequence:
    """The whole sequence of `document` cut as `spans` say; `rates`: units per second of its streams, Hz."""
    row = _written(
        document, SPANS, [(*s, GOES_ON if n else NEW_DOCUMENT) for n, s in enumerate(spans)], vocabulary, rates
    )
    return TokenSequence(row.ids.astype(np.int64), row.modality)


def _written(
    document: Document, kind: int, spans: Sequence[tuple[int, ...]], vocabulary: Vocabulary, rates: Sequence[float]
) -> Row:
    table = np.array(spans, dtype=np.int32).reshape(-1, 4)
    speeds, ids = np.array(rates, dtype=np.float64), ids_of(vocabulary)
    row = empty_row(emit(document, speeds, ids, kind, table, len(table), empty_row(0), 0))
    emit(document, speeds, ids, kind, table, len(table), row, 0)
    return row


def span_ids(document: Document, span: Span, vocabulary: Vocabulary, rates: Sequence[float] = RATES) -> np.ndarray:
    """Ids int64 of one span, without markers."""
    around = 1 + len(vocabulary.opening(span.modality)), 1 + len(vocabulary.closing(span.modality))
    return compose(document, [span], vocabulary, rates).ids[around[0] : -around[1]]


def pair(
    document: Document, given: int, start: int, end: int, vocabulary: Vocabulary, rates: Sequence[float] = RATES
) -> tuple[np.ndarray, np.ndarray]:
    """Words `[start, end)` as an ASR pair (`given` is `SPEECH`) or a TTS pair, int64: what is given, up to the marker
    of the answer, and the answer without what closes it. Both are empty where one of them would be."""
    kind = ASR if given == SPEECH else TTS
    spans = [(given, start, end, NEW_DOCUMENT), (1 - given, start, end, ANSWER)]
    row = _written(document, kind, spans, vocabulary, rates)
    content = np.flatnonzero(row.frame >= 0)
    told = content[(row.modality[content] == TEXT) == (given == SPEECH)]
    if not len(told) or len(told) == len(content):
        told = content[:0]
    first, after = (told[0], told[-1] + 1) if len(told) else (0, 0)
    return row.ids[:first].astype(np.int64), row.ids[first:after].astype(np.int64)


@dataclass(frozen=True)
class Segment:
    """A stretch of one modality in a generated sequence."""

    modality: int
    text: str
    """Empty for speech."""
    units: np.ndarray
    """Semantic units int64 `[n]`, deduplicated where the layout's are; empty for text."""
    prosody: Prosody | None = None
    """Pitch and style of each of them, where the vocabulary has both."""


def parse(
    ids: Sequence[int] | np.ndarray, vocabulary: Vocabulary, before: Sequence[int] | np.ndarray = ()
) -> list[Segment]:
    """Segments of a generated sequence, up to the first `</s>`. `before`: what it goes on from, whose last pitch and
    style hold until others are written; where there are none, unit 0 does.

    A segment ends where the kind of token changes, whatever the markers say, so that a model which forgets a
    marker is still understood; markers, `<s>` and padding ids carry nothing themselves.
    """
    ids = np.asarray(ids, dtype=np.int64)
    if (ends := np.flatnonzero(ids == vocabulary.eos)).size:
        ids = ids[: ends[0]]
    speech = vocabulary.is_speech(ids)
    kept = speech | vocabulary.is_text(ids)
    ids, speech = ids[kept], speech[kept]
    cuts = np.flatnonzero(speech[1:] != speech[:-1]) + 1
    segments, prosody = [], _last_prosody(np.asarray(before, dtype=np.int64), vocabulary)
    for piece, is_speech in zip(np.split(ids, cuts), np.split(speech, cuts), strict=True):
        if not len(piece):
            continue
        if is_speech[0]:
            segments.append(_spoken(np.concatenate([prosody, piece]), vocabulary))
            prosody = _last_prosody(np.concatenate([prosody, piece]), vocabulary)
        else:
            segments.append(Segment(TEXT, vocabulary.decode_text(piece), np.zeros(0, dtype=np.int64)))
    return segments


def _last_prosody(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Ids of the last pitch and the last style unit among `ids`, of unit 0 where there is none; empty where the
    vocabulary has not both."""
    if not {"pitch", "style"} <= set(vocabulary.blocks):
        return np.zeros(0, np.int64)
    firsts = [vocabulary.encode_units(np.zeros(1), name) for name in ("pitch", "style")]
    said = [ids[vocabulary.is_unit(ids, name)] for name in ("pitch", "style")]
    return np.concatenate([np.concatenate(both)[-1:] for both in zip(firsts, said, strict=True)])


def _spoken(ids: np.ndarray, vocabulary: Vocabulary) -> Segment:
    streams = {name: vocabulary.is_unit(ids, name) for name in vocabulary.blocks}
    names = np.array(list(streams))[np.argmax(list(streams.values()), axis=0)]
    values = [int(vocabulary.decode_units([id], name)[0]) for id, name in zip(ids.tolist(), names, strict=True)]
    said = in_force(list(zip(names.tolist(), values, strict=True)), repeat=False, style=0)
    units = {name: np.array(values, np.int64) for name, values in said.items()}
    semantic, prosody = units["semantic"], Prosody(units["pitch"], units["style"]) if "pitch" in units else None
    if vocabulary.layout.deduplicate:
        semantic, _, prosody = deduplicated(semantic, prosody)
    return Segment(SPEECH, "", semantic, prosody)
