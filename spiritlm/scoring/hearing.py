"""Sounds as ids of a vocabulary, each encoded once, however many requests it is in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from spiritlm.errors import InputError
from spiritlm.inference.pieces import require_units, spoken_ids
from spiritlm.scoring.protocol import Sound
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.protocol import SpeechTokenizer

HEARD_SECONDS = 600.0
"""Of sound in memory at a time, about."""
READERS, READ = 4, 32
"""Threads that read, and sounds that are read before those in memory are counted."""


class Hearing:
    """A speech tokenizer and what it has heard."""

    def __init__(self, ears: SpeechTokenizer | None, vocabulary: Vocabulary) -> None:
        """Without `ears` every sound is refused. Raises `InputError` where they have more units than the vocabulary has
        ids for."""
        if ears is not None:
            require_units(ears, vocabulary)
        self.ears, self.vocabulary = ears, vocabulary
        self._ids: dict[str | bytes, list[int]] = {}

    def ids(self, sound: Sound) -> list[int]:
        """Without markers. Raises `InputError`, with the sound's name, where it cannot be read or encoded."""
        self.hear([sound])
        return self._ids[_key(sound)]

    def hear(self, sounds: Iterable[Sound]) -> None:
        """Encode those that have not been heard, those of about one length together. Raises what `ids` raises."""
        new = {key: sound for sound in sounds if (key := _key(sound)) not in self._ids}
        if not new:
            return
        if self.ears is None:
            name = next(iter(new.values())).name
            raise InputError(f"{name}: the model cannot hear it: it was exported without a speech tokenizer")
        for heard in self._read(list(new.values()), self.ears.sample_rate):
            heard.sort(key=lambda pair: len(pair[1]))
            self._ids |= {_key(sound): ids for sound, ids in self._encode(heard, self.ears)}

    def _read(self, sounds: Sequence[Sound], rate: int) -> Iterator[list[tuple[Sound, np.ndarray]]]:
        heard: list[tuple[Sound, np.ndarray]] = []
        with ThreadPoolExecutor(READERS) as pool:
            for first in range(0, len(sounds), READ):
                some = sounds[first : first + READ]
                heard += zip(some, pool.map(lambda sound: sound.read(rate), some), strict=True)
                if sum(len(wave) for _, wave in heard) >= HEARD_SECONDS * rate:
                    yield heard
                    heard = []
        if heard:
            yield heard

    def _encode(
        self, heard: Sequence[tuple[Sound, np.ndarray]], ears: SpeechTokenizer
    ) -> Iterator[tuple[Sound, list[int]]]:
        try:
            streams = ears.encode_batch([wave for _, wave in heard], ears.sample_rate)
        except InputError as error:
            if len(heard) == 1:
                raise InputError(f"{heard[0][0].name}: {error}") from None
            for one in heard:  # one of them is to blame
                yield from self._encode([one], ears)
            return
        for (sound, _), found in zip(heard, streams, strict=True):
            yield sound, spoken_ids(found, self.vocabulary)


def _key(sound: Sound) -> str | bytes:
    source = sound.source  # it may be made when it is asked for
    return str(source) if isinstance(source, Path) else hashlib.sha256(source).digest()
