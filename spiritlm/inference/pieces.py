"""Spoken pieces as ids of a vocabulary, the markers between pieces, and what an answer may be made of and ends with."""

from __future__ import annotations

import numpy as np

from spiritlm.errors import InputError
from spiritlm.inference.request import Output, Task
from spiritlm.tokens.documents import span_ids
from spiritlm.tokens.emit import document_of
from spiritlm.tokens.interleave import SPEECH, TEXT, Span
from spiritlm.tokens.layout import STREAMS
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.protocol import SpeechTokenizer, UnitStreams

ANSWER_MARKERS: dict[Task, str] = {"transcribe": "[ASR]", "read": "[TTS]"}


def turn(before: int | None, after: int, vocabulary: Vocabulary) -> list[int]:
    """Markers between a piece of modality `before`, None at the beginning, and one of `after`; none within one."""
    if before == after:
        return []
    return (vocabulary.closing(before) if before is not None else []) + vocabulary.opening(after)


def answer_turn(before: int | None, output: Output, task: Task, vocabulary: Vocabulary) -> list[int]:
    """Markers between a prompt that ends in modality `before`, None where it is empty, and its answer: as in pairs of
    training where it is to be transcribed or read aloud and the vocabulary has `[ASR]` and `[TTS]`."""
    marker = vocabulary.marker(ANSWER_MARKERS[task]) if task in ANSWER_MARKERS else None
    if marker is not None and before is not None:
        return [*vocabulary.closing(before), marker]
    after = {"text": TEXT, "speech": SPEECH}.get(output, before)
    return [] if after is None else turn(before, after, vocabulary)


def end_ids(output: Output, task: Task, vocabulary: Vocabulary) -> list[int]:
    """Ids that end an answer: `</s>` always, so that speech can end (Spirit LM bans it there); what closes a span where
    one modality is asked for; the other one's marker where there is nothing to say beyond what was heard or read."""
    if output == "any":
        return [vocabulary.eos]
    own, other = (TEXT, SPEECH) if output == "text" else (SPEECH, TEXT)
    return [vocabulary.eos, *vocabulary.closing(own), *(vocabulary.opening(other) if task != "continue" else [])]


def banned_ids(output: Output, task: Task, vocabulary: Vocabulary) -> list[int]:
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
    return np.flatnonzero(~allowed).tolist()


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
