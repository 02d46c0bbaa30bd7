"""A folder of recordings without transcripts: speech is found by voice activity and long recordings are cut.

A document is one audio file, so what is cut is written anew: mono 16 kHz FLAC (some 60 MB an hour), cut in silences.
A recording is read in stretches of minutes; its length does not matter to memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from spiritlm.audio.vad import SAMPLE_RATE, voiced_segments
from spiritlm.corpus.layouts.check import Checked, audio_header
from spiritlm.corpus.layouts.found import UNKNOWN, Found, Reject, document_id, folder_under, place, walk
from spiritlm.corpus.manifest import Sentence, SpokenDocument
from spiritlm.run.files import atomic_path, read_json, remove_partial, write_json

SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus")
STRETCH = 300
"""Seconds of a recording in memory at a time, beside what was left of the stretch before."""
MAX_SILENCE = 3.0
"""Seconds; a longer silence ends a document."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Piece:
    """A part of a recording that becomes a document."""

    start: float
    """Seconds from the start of the wave."""
    end: float
    segments: tuple[Span, ...]
    """Speech in it, seconds from the start of the wave."""


def read_folder(root: Path, name: str) -> Iterator[Found | Reject]:
    """One recording an audio file under the folder `name`; other files are passed over.

    The speaker is the name of the folder a file stands in, unless that is `name` itself. Raises `InputError` where
    there is no such folder.
    """
    top = folder_under(root, name)
    for path in walk(root, top):
        if isinstance(path, Reject):
            yield path
        elif path.suffix.lower() in SUFFIXES:
            speaker = UNKNOWN if path.parent == top else path.parent.name
            yield Found(document_id(root, path.relative_to(root)), path.relative_to(root), (), speaker)


def cut(found: Found, root: Path, out: Path, max_seconds: float) -> Checked:
    """Write the speech of a recording as `out/audio/ID/ID-NUMBER.flac` of at most `max_seconds`, with its segments.

    A recording that was cut before is not cut again. Opens nothing outside `root`.
    """
    audio = place(root, found.audio)
    if audio is None:
        return Checked((), (Reject(found.id, "path leaves the root", str(found.audio)),))
    header = audio_header(root / audio)
    if isinstance(header, Reject):
        return Checked((), (replace(header, item=found.id, detail=f"{audio}, {header.detail}"),))
    folder = out / "audio" / found.id
    if not (folder / "pieces.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial(folder)
        try:
            _write_pieces(root / audio, folder, max_seconds)
        except (soundfile.LibsndfileError, ValueError) as error:
            detail = str(getattr(error, "error_string", error))
            return Checked((), (Reject(found.id, "audio unreadable", f"{audio}, {detail}"),))
    rows = read_json(folder / "pieces.json")
    if not rows:
        return Checked((), (Reject(found.id, "no speech", f"none was heard in {header.duration:.1f} s"),))
    return Checked(tuple(_document(found, out, folder, row) for row in rows), (), header.channels)


def _document(found: Found, out: Path, folder: Path, row: dict[str, Any]) -> SpokenDocument:
    return SpokenDocument(
        id=row["file"].removesuffix(".flac"),
        audio=(folder / row["file"]).relative_to(out),
        duration=row["samples"] / SAMPLE_RATE,
        sample_rate=SAMPLE_RATE,
        speaker=found.speaker,
        sentences=tuple(Sentence("", start, end) for start, end in row["segments"]),
        custom={"source": str(found.audio), "source_start": str(row["start"])},
    )


def _write_pieces(audio: Path, folder: Path, max_seconds: float) -> None:
    """FLAC files, then `pieces.json`, which says that they are all there."""
    rows: list[dict[str, Any]] = []
    wave, offset = np.zeros(0, np.float32), 0
    for stretch, last in _stretches(audio):
        wave = np.concatenate([wave, stretch])
        pieces, used = cut_at_silences(voiced_segments(wave, SAMPLE_RATE), len(wave) / SAMPLE_RATE, max_seconds, last)
        for piece in pieces:
            first, stop = round(piece.start * SAMPLE_RATE), round(piece.end * SAMPLE_RATE)
            name = f"{folder.name}-{len(rows):05d}.flac"
            with atomic_path(folder / name) as temporary:
                soundfile.write(temporary, np.clip(wave[first:stop], -1, 1), SAMPLE_RATE, "PCM_16", format="FLAC")
            samples = min(stop, len(wave)) - first
            segments = [[round(max(0, a - piece.start), 4), round(b - piece.start, 4)] for a, b in piece.segments]
            segments = [[a, min(b, int(samples / SAMPLE_RATE * 1e4) / 1e4)] for a, b in segments]
            start = round((offset + first) / SAMPLE_RATE, 4)
            rows.append({"file": name, "start": start, "samples": samples, "segments": segments})
        keep = min(len(wave), round(used * SAMPLE_RATE))
        wave, offset = wave[keep:], offset + keep
    write_json(folder / "pieces.json", rows)


def _stretches(audio: Path) -> Iterator[tuple[np.ndarray, bool]]:
    """float32 `[samples]` at 16 kHz, channels averaged, and whether it is the last. Raises `ValueError` on NaN."""
    with soundfile.SoundFile(str(audio)) as file:
        resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32")
        while True:
            block = file.read(STRETCH * file.samplerate, dtype="float32", always_2d=True)  # [samples, channels]
            last = len(block) < STRETCH * file.samplerate
            wave = block.mean(axis=1, dtype=np.float32)
            if not np.isfinite(wave).all():
                raise ValueError("it holds samples that are not finite")
            yield resampler.resample_chunk(wave, last=last), last
            if last:
                return


def cut_at_silences(segments: list[Span], duration: float, max_seconds: float, last: bool) -> tuple[list[Piece], float]:
    """Group speech segments into pieces of at most `max_seconds`, apart where the silence is longer than `MAX_SILENCE`.

    Gives the pieces and the second up to which the wave is used up. Where the wave is not the `last` of its recording,
    the piece that touches its end waits for more, unless it is as long as a piece may be. Speech without a silence is
    cut where the piece is full.
    """
    pieces: list[Piece] = []
    group: list[Span] = []
    for start, end in segments:
        if group and (end - group[0][0] > max_seconds or start - group[-1][1] > MAX_SILENCE):
            pieces.append(_piece(group))
            group = []
        while end - start > max_seconds:
            pieces.append(_piece([(start, start + max_seconds)]))
            start += max_seconds
        if end - start > 0.1:  # no crumbs of a cut
            group.append((start, end))
    if group and (last or duration - group[-1][1] > MAX_SILENCE):
        pieces.append(_piece(group))
        group = []
    return pieces, group[0][0] if group else duration


def _piece(group: list[Span]) -> Piece:
    return Piece(group[0][0], group[-1][1], tuple(group))
