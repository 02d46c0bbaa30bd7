"""Spoken pieces as ids of a vocabulary, the markers between pieces, and what an answer may be made of and ends with."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from spiritlm.errors import InputError
from spiritlm.inference.request import Output, Task
from spiritlm.tokens.documents import span_ids
from spiritlm.tokens.emit import document_of
from spiritlm.tokens.interleave import SPEECH, TEXT, Span
from spiritlm.tokens.layout import STREAMS
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.protocol import SpeechTokenizer, UnitStreams

MARKERS: dict[tuple[Task, int], str] = {("transcribe", TEXT): "[ASR]", ("read", SPEECH): "[TTS]"}
"""Before answers of a modality."""


def turn(before: int | None, after: int, vocabulary: Vocabulary, task: Task = "continue") -> list[int]:
    """Markers between a piece of modality `before`, None at the beginning, and one of `after`; none within one. Where
    speech is to be written down or text read aloud, they are those of the pairs of training, `[ASR]` and `[TTS]`, if
    the vocabulary has them."""
    if before == after:
        return []
    marker = vocabulary.marker(MARKERS[task, after]) if (task, after) in MARKERS and before is not None else None
    opening = vocabulary.opening(after) if marker is None else [marker]
    return (vocabulary.closing(before) if before is not None else []) + opening


def end_ids(output: Output, task: Task, vocabulary: Vocabulary) -> list[int]:
    """Ids that end an answer: `</s>` always, so that speech can end (Spirit LM bans it there); what closes a span where
    one modality is asked for; the other one's marker where there is nothing to say beyond what was heard or read."""
    if output == "any":
        return [vocabulary.eos]
    own, other = (TEXT, SPEECH) if output == "text" else (SPEECH, TEXT)
    return [vocabulary.eos, *vocabulary.closing(own), *(vocabulary.opening(other) if task != "continue" else [])]


@lru_cache(maxsize=8)
def banned_ids(output: Output, task: Task, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Ids that an answer may not hold: padding rows and `<s>` always; markers and the other modality where one is asked
    for (Spirit LM, `generate`)."""
    known = np.arange(vocabulary.padded_size)
    allowed = np.isin(known, end_ids(output, task, vocabulary))
    if output in ("text", "any"):
        allowed |= vocabulary.is_text(known)
    if output in ("speech", "any"):
        allowed |= vocabulary.is_speech(known)
    if output == "any":
        for modality in (TEXT, SPEECH):
            allowed |= np.isin(known, vocabulary.opening(modality) + vocabulary.closing(modality))
    return tuple(np.flatnonzero(~allowed).tolist())


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
