"""flite through its C interface: the voices of recorded speakers slt, rms, awb and kal16, with word and phone times.

The library is global to the process and not thread-safe: speak from one thread, and in several processes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any

import numpy as np

from spiritlm.smallworld.spoken import Interval, Spoken, whole_sentence

VOICES = ("awb", "kal16", "rms", "slt")
PAUSE = "pau"

_pointer = ctypes.c_void_p


class _Relation(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("features", _pointer),
        ("utterance", _pointer),
        ("head", _pointer),
        ("tail", _pointer),
    )


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


def is_installed() -> bool:
    """Whether Debian's flite (or another build of libflite with its voices) is there."""
    return ctypes.util.find_library("flite") is not None


def speak(text: str, voice: str) -> Spoken:
    """`voice`: one of `VOICES`. Sound at 16 kHz."""
    flite = _library()
    utterance = flite.flite_synth_text(text.encode(), _voice(voice))
    try:
        wave = ctypes.cast(flite.utt_wave(utterance), ctypes.POINTER(_Wave)).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / 32768
        rate = wave.sample_rate
        words, phones = _segments(utterance)
    finally:
        flite.delete_utterance(utterance)
    written = text.split()
    if len(words) == len(written):
        matched = tuple(word._replace(text=text) for word, text in zip(words, written, strict=True))
    else:
        matched = whole_sentence(text, phones, len(samples) / rate)
    return Spoken(samples, rate, matched, phones)


def pronounce(word: str) -> tuple[str, ...]:
    """Phones of a spelling in flite's alphabet, without stress: by its lexicon, else by its rules."""
    flite = _library()
    found = flite.lex_lookup(_lexicon(), word.encode(), None, None)
    phones, rest = [], found
    while rest:
        phones.append(flite.val_string(flite.val_car(rest)).decode().rstrip("012"))
        rest = flite.val_cdr(rest)
    flite.delete_val(found)
    return tuple(phones)


def _segments(utterance: int) -> tuple[list[Interval], tuple[Interval, ...]]:
    """Words as flite spells them, and phones, from the segment relation of an utterance."""
    flite = _library()
    words: list[Interval] = []
    phones: list[Interval] = []
    item = ctypes.cast(flite.utt_relation(utterance, b"Segment"), ctypes.POINTER(_Relation)).contents.head
    start, last_word = 0.0, None
    while item:
        name = flite.ffeature_string(item, b"name").decode()
        end = flite.ffeature_float(item, b"end")
        word = flite.path_to_item(item, b"R:SylStructure.parent.parent")
        if name != PAUSE:
            phones.append(Interval(name, start, end))
            if word == last_word and words:
                words[-1] = words[-1]._replace(end=end)
            else:
                spelled = flite.ffeature_string(item, b"R:SylStructure.parent.parent.name").decode()
                words.append(Interval(spelled, start, end))
            last_word = word
        start, item = end, flite.item_next(item)
    return words, tuple(phones)


@cache
def _voice(name: str) -> int:
    library = ctypes.CDLL(f"libflite_cmu_us_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
    register = getattr(library, f"register_cmu_us_{name}")
    register.restype, register.argtypes = _pointer, [ctypes.c_char_p]
    return register(None)


@cache
def _lexicon() -> int:
    _library()
    start = ctypes.CDLL("libflite_cmulex.so.1", mode=ctypes.RTLD_GLOBAL).cmu_lex_init
    start.restype = _pointer
    return start()


@cache
def _library() -> Any:
    flite = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
    for part in ("usenglish", "cmulex"):
        ctypes.CDLL(f"libflite_{part}.so.1", mode=ctypes.RTLD_GLOBAL)
    string, real = ctypes.c_char_p, ctypes.c_float
    for name, result, arguments in (
        ("flite_synth_text", _pointer, [string, _pointer]),
        ("utt_relation", _pointer, [_pointer, string]),
        ("utt_wave", _pointer, [_pointer]),
        ("item_next", _pointer, [_pointer]),
        ("path_to_item", _pointer, [_pointer, string]),
        ("ffeature_string", string, [_pointer, string]),
        ("ffeature_float", real, [_pointer, string]),
        ("delete_utterance", None, [_pointer]),
        ("lex_lookup", _pointer, [_pointer, string, string, _pointer]),
        ("val_car", _pointer, [_pointer]),
        ("val_cdr", _pointer, [_pointer]),
        ("val_string", string, [_pointer]),
        ("delete_val", None, [_pointer]),
    ):
        function = getattr(flite, name)
        function.restype, function.argtypes = result, arguments
    flite.flite_init()
    return flite
