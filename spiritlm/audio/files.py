"""Audio files: whatever libsndfile can read comes in, mono float32 at the rate that was asked for goes out."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import soundfile
import soxr

from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path

RIFF_HEADER, UNKNOWN_SIZE = 12, 2**32 - 1
"""Bytes before the first chunk of a WAV; the size of a chunk that is not known yet."""


def read_audio(
    source: str | Path | bytes, sample_rate: int, start: float = 0.0, end: float = math.inf, name: str = ""
) -> np.ndarray:
    """Read a sound file, or the bytes of one, as float32 `[samples]` in [-1, 1]: channels averaged, then resampled to
    `sample_rate` (Hz).

    `start`, `end`: seconds; what is outside them is not read, so nothing may be left. `name`: what errors call it, its
    path if nothing else is said. Raises `InputError` for a file that is absent, is not audio, is empty, is a WAV that
    was cut off or holds non-finite samples.
    """
    name = name or (f"{len(source)} bytes" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise InputError(f"{name}: expected an audio file, but there is none")
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as file:
            file_rate = file.samplerate
            first = min(round(start * file_rate), file.frames)
            last = round(min(end * file_rate, file.frames))
            file.seek(first)
            channels = file.read(max(0, last - first), dtype="float32", always_2d=True)  # [samples, channels]
            missing = _missing_bytes(source) if file.format == "WAV" else 0
    except soundfile.LibsndfileError as error:
        raise InputError(f"{name}: expected an audio file, but it cannot be read: {error.error_string}") from None
    if missing:
        raise InputError(f"{name}: cut off, {missing} bytes of its samples are missing")
    if not len(channels):
        raise InputError(f"{name}: expected an audio file with samples, found none")
    wave = channels.mean(axis=1)
    if faults := int(np.count_nonzero(~np.isfinite(wave))):
        raise InputError(f"{name}: expected finite samples, found {faults} of {len(wave)} that are not")
    return wave if file_rate == sample_rate else soxr.resample(wave, file_rate, sample_rate)


def _missing_bytes(source: str | Path | bytes) -> int:
    """How many bytes a WAV says that its samples have and has not, which libsndfile passes over. None are missed where
    it does not know, as what is written to a pipe."""
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        end = file.seek(0, io.SEEK_END)
        file.seek(RIFF_HEADER)
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                return 0 if size == UNKNOWN_SIZE else max(0, file.tell() + size - end)
            file.seek(size + size % 2, io.SEEK_CUR)
    return 0


def write_wav(path: str | Path, wave: np.ndarray, sample_rate: int) -> None:
    """Write float `[samples]` as a 16-bit mono WAV, whole or not at all; samples beyond [-1, 1] are clipped."""
    with atomic_path(Path(path)) as temporary:
        soundfile.write(temporary, np.clip(wave, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
