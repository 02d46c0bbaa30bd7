"""Spoken pieces as ids of a vocabulary, and the markers between pieces of text and speech."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spiritlm.errors import InputError
from spiritlm.tokens.documents import span_ids
from spiritlm.tokens.emit import document_of
from spiritlm.tokens.interleave import SPEECH, TEXT, Span
from spiritlm.tokens.layout import STREAMS
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.protocol import SpeechTokenizer, UnitStreams


def turn(before: int | None, after: int, vocabulary: Vocabulary) -> list[int]:
    """Markers between a piece of modality `before`, None at the beginning, and one of `after`; none within one."""
    if before == after:
        return []
    return (vocabulary.closing(before) if before is not None else []) + vocabulary.opening(after)


def end_ids(modality: int, vocabulary: Vocabulary) -> list[int]:
    """Ids that end what is said in one modality: `</s>`, and where it closes or the other one opens."""
    other = SPEECH if modality == TEXT else TEXT
    return [vocabulary.eos, *vocabulary.closing(modality), *vocabulary.opening(other)]


def banned_ids(modality: int, vocabulary: Vocabulary, ends: Sequence[int]) -> list[int]:
    """Ids that are neither of the modality nor among `ends`."""
    known = np.arange(vocabulary.padded_size)
    own = vocabulary.is_text(known) if modality == TEXT else vocabulary.is_speech(known)
    return np.flatnonzero(~own & ~np.isin(known, ends)).tolist()


def spoken_ids(heard: UnitStreams, vocabulary: Vocabulary) -> list[int]:
    streams = dict(heard.items())
    document = document_of(**{name: stream.values for name, stream in streams.items()})
    rates = [streams[name].rate if name in streams else 0.0 for name in STREAMS]
    return span_ids(document, Span(SPEECH, 0, 0), vocabulary, rates).tolist()


def require_units(ears: SpeechTokenizer, vocabulary: Vocabulary) -> None:
    """Raises `InputError` where the ears have more units than the vocabulary has ids for."""
    for name, shape in ears.streams.items():
        if name in vocabulary.blocks and shape.size > (known := vocabulary.blocks[name].size):
            raise InputError(f"speech tokenizer: {shape.size} {name} units, expected at most the model's {known}")
