"""From what a layout tells to what can be used: the audio's header is read, and every time must lie in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from spiritlm.corpus.layouts.found import Found, Reject, place
from spiritlm.corpus.manifest import Sentence, SpokenDocument

TOLERANCE = 0.1
"""Seconds by which a stated duration may differ from the file's, and a time may lie outside it."""


@dataclass(frozen=True)
class Checked:
    """One recording after the look at it."""

    documents: tuple[SpokenDocument, ...]
    """One, or none; several where a long recording was cut."""
    rejects: tuple[Reject, ...] = ()
    channels: int = 1


@dataclass(frozen=True)
class Header:
    """What an audio file says of itself."""

    duration: float
    """Seconds."""
    sample_rate: int
    channels: int


def check(found: Found, root: Path, read_header: bool = True) -> Checked:
    """The document of a recording with transcripts, and what of it cannot be used.

    A sentence without text or with times outside the recording is left out and named; where none is left, the document
    is. `read_header=False` believes the layout where it states duration and sample rate. Opens nothing outside `root`.
    """
    audio = place(root, found.audio)
    if audio is None:
        return _rejected(found, "path leaves the root", str(found.audio))
    stated = _stated(found)
    header = stated if stated and not read_header else audio_header(root / audio)
    if isinstance(header, Reject):
        return _rejected(found, header.kind, f"{audio}, {header.detail}")
    if found.duration is not None and abs(found.duration - header.duration) > TOLERANCE:
        told, file = round(found.duration, 3), round(header.duration, 3)
        return _rejected(found, "duration differs", f"the manifest says {told} s, the file {file} s")
    if not found.sentences:
        return _rejected(found, "transcript absent", "it has no sentence")
    sentences, rejects = _sentences(found, header.duration)
    if not sentences:
        return _rejected(found, rejects[0].kind, rejects[0].detail)
    document = SpokenDocument(
        found.id, audio, header.duration, header.sample_rate, found.speaker, tuple(sentences), dict(found.custom)
    )
    return Checked((document,), tuple(rejects), header.channels)


def audio_header(path: Path) -> Header | Reject:
    """Duration, rate and channels of an audio file, or why it has none; samples are not decoded."""
    if not path.is_file():
        return Reject(path.name, "audio absent", "there is no such file")
    if path.stat().st_size == 0:
        return Reject(path.name, "audio empty", "the file has no bytes")
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        return Reject(path.name, "audio unreadable", str(getattr(error, "error_string", error)))
    if not 0 < info.frames < 2**48:
        return Reject(path.name, "audio empty", f"its header states {info.frames} samples")
    return Header(info.frames / info.samplerate, info.samplerate, info.channels)


def _stated(found: Found) -> Header | None:
    if found.duration is None or not found.sample_rate:
        return None
    return Header(found.duration, found.sample_rate, 1)


def _rejected(found: Found, kind: str, detail: str) -> Checked:
    return Checked((), (Reject(found.id, kind, detail, max(1, len(found.sentences))),))


def _sentences(found: Found, duration: float) -> tuple[list[Sentence], list[Reject]]:
    good, bad = [], []
    for number, sentence in enumerate(found.sentences):
        end = duration if sentence.end == math.inf else sentence.end
        if not sentence.text.strip():
            bad.append(Reject(f"{found.id}-{number}", "transcript empty"))
        elif fault := _time_fault(sentence, end, duration):
            bad.append(Reject(f"{found.id}-{number}", "times outside the recording", fault))
        else:
            good.append(_within(sentence, end, duration))
    return sorted(good, key=lambda sentence: (sentence.start, sentence.end)), bad


def _time_fault(sentence: Sentence, end: float, duration: float) -> str:
    """Why the times cannot be right, or nothing."""
    spans: Sequence[tuple[str, float, float]] = (
        ("sentence", sentence.start, end),
        *((f"word {word.text!r}", word.start, word.end) for word in sentence.words),
    )
    for name, start, stop in spans:
        if not (math.isfinite(start) and math.isfinite(stop)):
            return f"{name} at {start} to {stop}"
        if start < -TOLERANCE or stop > duration + TOLERANCE or start > stop or start >= duration:
            return f"{name} at {start:.2f} to {stop:.2f} s of {duration:.2f} s"
    return "" if end > sentence.start else f"sentence at {sentence.start:.2f} s lasts no time"


def _within(sentence: Sentence, end: float, duration: float) -> Sentence:
    """Times within `duration`, in tenths of milliseconds; one space between words."""

    def inside(second: float) -> float:
        return min(max(0.0, round(second, 4)), math.floor(duration * 1e4) / 1e4)

    words = tuple(type(word)(word.text, inside(word.start), inside(word.end)) for word in sentence.words)
    return Sentence(" ".join(sentence.text.split()), inside(sentence.start), inside(end), words)
