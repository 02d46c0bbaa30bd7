"""A word-aligned document, and the token sequences that it can become.

Every sequence is `<s>`, a marker at the start and at each change of modality, then `</s>`:

    text         <s>[Text] It rained. </s>
    speech       <s>[Speech][Hu5][Hu81] ... </s>
    interleaved  <s>[Text] It [Speech][Hu81][Hu7] ... </s>

Units are deduplicated inside a speech span (Spirit LM, section 3.1). Each id has a modality: a marker counts to
the span that it opens, `<s>` to the first span, `</s>` to the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spiritlm.tokens.interleave import SPEECH, TEXT, Span, deduplicate
from spiritlm.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class AlignedDocument:
    """A document as words, each with its text ids and its units; together the words hold every unit once."""

    text: np.ndarray
    """int32 `[text ids]` of all words."""
    units: np.ndarray
    """uint16 `[units]`: semantic units of the recording, not deduplicated; empty where nothing is spoken."""
    word_text: np.ndarray
    """int64 `[words + 1]`: word `w` has text ids `text[word_text[w]:word_text[w + 1]]`."""
    word_units: np.ndarray
    """int64 `[words + 1]`: word `w` has units `units[word_units[w]:word_units[w + 1]]`."""

    def __len__(self) -> int:
        """Number of words."""
        return len(self.word_text) - 1

    def text_span(self) -> list[Span]:
        return [Span(TEXT, 0, len(self))]

    def speech_span(self) -> list[Span]:
        return [Span(SPEECH, 0, len(self))]


@dataclass(frozen=True)
class TokenSequence:
    """Ids and their modalities, of equal length."""

    ids: np.ndarray
    """int64 `[n]`."""
    modality: np.ndarray
    """uint8 `[n]`, an index into `interleave.MODALITIES`."""

    def __len__(self) -> int:
        return len(self.ids)


def span_ids(document: AlignedDocument, span: Span, vocabulary: Vocabulary) -> np.ndarray:
    """Ids int64 of one span, without its marker."""
    if span.modality == SPEECH:
        units = document.units[document.word_units[span.start] : document.word_units[span.end]]
        return vocabulary.encode_units(deduplicate(units)[0])
    ids = document.text[document.word_text[span.start] : document.word_text[span.end]]
    return ids.astype(np.int64)


def compose(document: AlignedDocument, spans: Sequence[Span], vocabulary: Vocabulary) -> TokenSequence:
    """The whole sequence of `document` cut as `spans` say."""
    pieces = [np.array([vocabulary.bos])]
    modalities = [spans[0].modality]
    for number, span in enumerate(spans):
        if number == 0 or span.modality != spans[number - 1].modality:
            pieces.append(np.array([marker(span.modality, vocabulary)]))
            modalities.append(span.modality)
        pieces.append(span_ids(document, span, vocabulary))
        modalities.append(span.modality)
    pieces.append(np.array([vocabulary.eos]))
    modalities.append(spans[-1].modality)
    lengths = [len(piece) for piece in pieces]
    return TokenSequence(np.concatenate(pieces), np.repeat(np.array(modalities, dtype=np.uint8), lengths))


def marker(modality: int, vocabulary: Vocabulary) -> int:
    return vocabulary.speech_marker if modality == SPEECH else vocabulary.text_marker


@dataclass(frozen=True)
class Segment:
    """A stretch of one modality in a generated sequence."""

    modality: int
    text: str
    """Empty for speech."""
    units: np.ndarray
    """Deduplicated semantic units int64 `[n]`; empty for text."""


def parse(ids: Sequence[int] | np.ndarray, vocabulary: Vocabulary) -> list[Segment]:
    """Segments of a generated sequence, up to the first `</s>`.

    A segment ends where the kind of token changes, whatever the markers say, so that a model which forgets a
    marker is still understood; markers, `<s>` and padding ids carry nothing themselves.
    """
    ids = np.asarray(ids, dtype=np.int64)
    if (ends := np.flatnonzero(ids == vocabulary.eos)).size:
        ids = ids[: ends[0]]
    speech = vocabulary.is_unit(ids)
    kept = speech | vocabulary.is_text(ids)
    ids, speech = ids[kept], speech[kept]
    cuts = np.flatnonzero(speech[1:] != speech[:-1]) + 1
    segments = []
    for piece, is_speech in zip(np.split(ids, cuts), np.split(speech, cuts), strict=True):
        if not len(piece):
            continue
        if is_speech[0]:
            segments.append(Segment(SPEECH, "", vocabulary.decode_units(piece)))
        else:
            segments.append(Segment(TEXT, vocabulary.decode_text(piece), np.zeros(0, dtype=np.int64)))
    return segments
