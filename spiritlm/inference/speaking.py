"""Generated segments as sound: whole, or while their tokens are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from spiritlm.errors import InputError
from spiritlm.synthesis.protocol import SpeechDecoder, SpeechStream, as_given, check_voice
from spiritlm.synthesis.unit_decoder import shift_pitch
from spiritlm.tokens.documents import Segment, parse
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.streams import Prosody
from spiritlm.tokens.vocabulary import Vocabulary

BLOCK = 10
"""Units that a voice is given at a time (GLM-4-Voice: a block of its decoder)."""
NOTHING = np.zeros(0, np.float32)


class Manner(NamedTuple):
    """Who speaks, and how."""

    speaker: str | None = None
    """None: the voice's own."""
    style: str | None = None
    """Instead of what the model says."""
    pitch_shift: float = 0.0
    """Semitones; needs pitch units."""

    def check(self, voice: SpeechDecoder) -> None:
        """Raises `InputError`, naming the nearest, for what the voice cannot do."""
        check_voice(voice, self.speaker, self.style)
        shift_pitch(voice, None, self.pitch_shift)


class Said(NamedTuple):
    """A little more of an answer."""

    modality: int
    """`TEXT` or `SPEECH`."""
    text: str = ""
    """Whole words, with the space before them where they go on."""
    wave: np.ndarray = NOTHING
    """float32 `[samples]` at the voice's rate."""


def spoken(voice: SpeechDecoder, segment: Segment, manner: Manner) -> np.ndarray:
    """A segment of speech, at least one unit -> float32 `[samples]`."""
    units, _, prosody = as_given(voice, segment.units, segment.prosody)
    return voice.decode(units, manner.speaker, manner.style, shift_pitch(voice, prosody, manner.pitch_shift))


def as_it_comes(
    ids: Iterator[int],
    prompt: np.ndarray,
    vocabulary: Vocabulary,
    voice: SpeechDecoder | None,
    manner: Manner,
    shortest: int,
) -> Iterator[Said]:
    """`ids`: generated one after the other after `prompt`, int `[tokens]`. A run of speech is spoken once `shortest`
    units of it are there; put together, its sound is that of `spoken`."""
    run = _Run(vocabulary, prompt, "")
    for id in ids:
        modality = _modality(id, vocabulary)
        if modality is None:
            continue
        if run.ids and modality != run.modality:
            yield from run.more(voice, manner, shortest, ended=True)
            run = run.next()
        run.modality = modality
        run.ids.append(id)
        yield from run.more(voice, manner, shortest, ended=False)
    yield from run.more(voice, manner, shortest, ended=True)


class _Run:
    """Tokens of one modality, and how much of them has been said."""

    def __init__(self, vocabulary: Vocabulary, before: np.ndarray, gap: str) -> None:
        """`before`: ids that it goes on from; `gap`: what parts it from an earlier text."""
        self.vocabulary, self.before, self.gap = vocabulary, before, gap
        self.modality = TEXT
        self.ids: list[int] = []
        self.done = 0
        """Letters written, or units spoken."""
        self.waiting = 0
        """Units since the last time."""
        self.stream: SpeechStream | None = None

    def next(self) -> _Run:
        gap = " " if self.gap or self.modality == TEXT else ""
        return _Run(self.vocabulary, np.concatenate([self.before, self.ids]), gap)

    def more(self, voice: SpeechDecoder | None, manner: Manner, shortest: int, ended: bool) -> Iterator[Said]:
        if not self.ids:
            return
        if self.modality == TEXT:
            text = self._words(ended)
            if text:
                yield Said(TEXT, text)
        elif voice is not None:
            wave = self._sound(voice, manner, shortest, ended)
            if len(wave):
                yield Said(SPEECH, "", wave)

    def _words(self, ended: bool) -> str:
        """Up to the last space, since the word behind it may go on."""
        text = self.vocabulary.decode_text(self.ids)
        whole = len(text) if ended else text.rfind(" ")
        new, self.done = text[self.done : max(whole, self.done)], max(whole, self.done)
        gap, self.gap = (self.gap, "") if new else ("", self.gap)
        return gap + new

    def _sound(self, voice: SpeechDecoder, manner: Manner, shortest: int, ended: bool) -> np.ndarray:
        """Of a block of new units; of all that are left where the run has ended."""
        if not ended:
            self.waiting += int(self.vocabulary.is_unit(np.array(self.ids[-1:]))[0])
            if self.waiting < (BLOCK if self.done else max(BLOCK, shortest)):
                return NOTHING
        (segment,) = parse(self.ids, self.vocabulary, self.before)
        self.waiting = 0
        if len(segment.units) < max(1, shortest):
            return NOTHING
        if self.stream is None and ended:
            return spoken(voice, segment, manner)
        self.stream = self.stream or _stream(voice, manner)
        if self.stream is None:
            return NOTHING
        units, _, prosody = as_given(voice, segment.units, segment.prosody)
        prosody = shift_pitch(voice, prosody, manner.pitch_shift)
        new = slice(self.done, None)
        told = None if prosody is None else Prosody(prosody.pitch[new], prosody.style[new])
        wave, self.done = self.stream.push(units[new], told), len(units)
        return np.concatenate([wave, self.stream.finish()]) if ended else wave


def _modality(id: int, vocabulary: Vocabulary) -> int | None:
    """None of a marker."""
    one = np.array([id])
    if vocabulary.is_speech(one)[0]:
        return SPEECH
    return TEXT if vocabulary.is_text(one)[0] else None


def _stream(voice: SpeechDecoder, manner: Manner) -> SpeechStream | None:
    """None where the voice needs the whole utterance."""
    try:
        return voice.stream(manner.speaker, manner.style)
    except InputError:
        return None
