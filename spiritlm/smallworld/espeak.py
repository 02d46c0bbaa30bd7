"""espeak-ng through its C interface: a hundred voice variants with rate, pitch, range and volume, and word times.

The library comes from Debian (`espeak-ng`) or from the pip package `espeakng-loader`. It is global to the process,
not thread-safe, and carries state from one utterance to the next: the same calls in the same order in a fresh
process repeat exactly, so who needs that speaks a fixed list in a fresh process.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spiritlm.errors import InputError
from spiritlm.smallworld.spoken import Interval, Spoken, whole_sentence

_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 2, 1, 2, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8, _BY_CHARACTER = 1, 1
_SEPARATOR, _STRESS = "_", "ˈˌ"
_END, _WORD, _PHONEME = 0, 1, 7


@dataclass(frozen=True)
class Manner:
    """How espeak-ng speaks: its own units and defaults."""

    rate: int = 170
    """Words a minute."""
    pitch: int = 50
    """Level, 0 to 99."""
    range: int = 50
    """Of the pitch, 0 (flat) to 99."""
    volume: int = 100
    """Amplitude in percent."""


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Engine:
    """The one instance of the library in this process."""

    def __init__(self) -> None:
        name, data = _find_library()
        self.library: Any = ctypes.CDLL(name)
        self.library.espeak_Info.restype = ctypes.c_char_p
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        self.library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        self.sample_rate: int = self.library.espeak_Initialize(_SYNCHRONOUS, 0, data, options)
        if self.sample_rate <= 0:
            raise InputError(f"espeak-ng: {name} was found but does not start")
        self._callback = _CALLBACK(self._receive)
        self.library.espeak_SetSynthCallback(self._callback)
        self.waves: list[np.ndarray] = []
        self.words: list[tuple[int, float]] = []
        """(character position in the text, seconds)."""
        self.phones: list[tuple[str, float]] = []
        """(name, seconds); pauses included."""

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.waves.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float32) / 32768)
        number = 0
        while events[number].type != _END:
            event = events[number]
            seconds = event.sample / self.sample_rate
            if event.type == _WORD:
                self.words.append((event.text_position - 1, seconds))
            elif event.type == _PHONEME:
                self.phones.append((bytes(event.id.string).split(b"\0")[0].decode("utf-8", "replace"), seconds))
            number += 1
        return 0


@cache
def _engine() -> _Engine:
    return _Engine()


def _find_library() -> tuple[str, bytes | None]:
    """Name or path of the library, and the folder of its data where that is not built in."""
    if name := ctypes.util.find_library("espeak-ng"):
        return name, None
    try:
        import espeakng_loader
    except ImportError:
        raise InputError("espeak-ng is not installed: apt install espeak-ng, or pip install espeakng-loader") from None
    return str(espeakng_loader.get_library_path()), str(Path(espeakng_loader.get_data_path())).encode()


def is_voice(name: str) -> bool:
    """Whether espeak-ng knows the voice and its variant, for example `en-us` or `en-us+f3`."""
    library = _engine().library
    base, _, variant = name.partition("+")
    if library.espeak_SetVoiceByName(base.encode()) != 0:
        return False
    # an unknown variant is silently left out by the library, so its file is looked for
    data = ctypes.c_char_p()
    library.espeak_Info(ctypes.byref(data))
    return not variant or (Path((data.value or b"").decode()) / "voices" / "!v" / variant).is_file()


def speak(text: str, voice: str, manner: Manner) -> Spoken:
    """`voice`: as espeak-ng names it, variant after a plus. Raises `InputError` for a voice it does not know."""
    engine = _engine()
    if not is_voice(voice):
        raise InputError(f"espeak-ng has no voice {voice!r}")
    engine.library.espeak_SetVoiceByName(voice.encode())
    for parameter, value in (
        (_RATE, manner.rate),
        (_PITCH, manner.pitch),
        (_RANGE, manner.range),
        (_VOLUME, manner.volume),
    ):
        engine.library.espeak_SetParameter(parameter, value, 0)
    engine.waves, engine.words, engine.phones = [], [], []
    encoded = text.encode()
    engine.library.espeak_Synth(encoded, len(encoded) + 1, 0, _BY_CHARACTER, 0, _UTF8, None, None)
    engine.library.espeak_Synchronize()
    wave = np.concatenate([np.zeros(0, np.float32), *engine.waves])
    duration = len(wave) / engine.sample_rate
    phones = _phones(engine.phones, duration)
    return Spoken(wave, engine.sample_rate, _words(text, engine.words, phones, duration), phones)


def pronounce(word: str, voice: str) -> tuple[str, ...]:
    """IPA phones of a spelling, without stress. Raises `InputError` for a voice that espeak-ng does not know."""
    library = _engine().library
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise InputError(f"espeak-ng has no voice {voice!r}")
    rest = ctypes.c_char_p(word.encode())
    said = library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _PHONEME_IPA | ord(_SEPARATOR) << 8).decode()
    return tuple(phone for part in said.split(_SEPARATOR) if (phone := part.strip(_STRESS)))


def _phones(events: list[tuple[str, float]], duration: float) -> tuple[Interval, ...]:
    ended = [*events, ("", duration)]
    intervals = (Interval(name, start, end) for (name, start), (_, end) in pairwise(ended))
    return tuple(phone for phone in intervals if phone.text.strip("_:;!|") and phone.end > phone.start)


def _words(
    text: str, events: list[tuple[int, float]], phones: tuple[Interval, ...], duration: float
) -> tuple[Interval, ...]:
    """Words of the text by the character positions of the events.

    espeak-ng gives one event for pairs such as "of the" and empty ones at the end: a word without an event of its
    own joins the word before it. An interval lasts from its first phone to its last.
    """
    written = text.split()
    offsets = np.cumsum([0, *(len(word) + 1 for word in written)])
    first: dict[int, float] = {}
    for position, seconds in events:
        if 0 <= position < len(text):
            first.setdefault(int(np.searchsorted(offsets, position, side="right")) - 1, seconds)
    numbers, starts = sorted(first), [first[number] for number in sorted(first)]
    if not numbers or numbers[0] != 0 or any(b <= a for a, b in pairwise(starts)):
        return whole_sentence(text, phones, duration)
    sounding = [_sounding(phones, a, b) for a, b in pairwise([*starts, duration])]
    groups = [" ".join(written[a:b]) for a, b in pairwise([*numbers, len(written)])]
    return tuple(Interval(group, *times) for group, times in zip(groups, sounding, strict=True))


def _sounding(phones: tuple[Interval, ...], start: float, end: float) -> tuple[float, float]:
    """From the first to the last phone that begins in `[start, end)`."""
    inside = [phone for phone in phones if start <= phone.start < end]
    return (inside[0].start, min(end, inside[-1].end)) if inside else (start, end)
