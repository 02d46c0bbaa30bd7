"""Mel frames of a whole split in one file, one recording behind the other: what speech decoders are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import corpus_root, inside
from spiritlm.corpus.store import Record
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path
from spiritlm.run.progress import track
from spiritlm.run.stage import is_main_process
from spiritlm.run.workers import map_in_workers

FRAMES_FILE = "mel.npy"


class Front(NamedTuple):
    """How sound becomes frames."""

    sample_rate: int
    """Hz."""
    hop: int
    """Samples between frames."""
    mels: int
    frames: Callable[[torch.Tensor], torch.Tensor]
    """float32 `[samples]`, a multiple of `hop` -> `[frames, mels]`; a function that can be pickled."""

    def of(self, recording: Recording) -> np.ndarray:
        """float16 `[frames, mels]` of the seconds asked for; silence is added, or the end cut, to have exactly as many
        frames."""
        samples = recording.frames * self.hop
        end = recording.start + samples / self.sample_rate
        wave = read_audio(recording.audio, self.sample_rate, recording.start, end)[:samples]
        return self.frames(torch.from_numpy(np.pad(wave, (0, samples - len(wave))))).half().numpy()


class Recording(NamedTuple):
    """`frames` frames from second `start` on."""

    audio: Path
    start: float
    frames: int


def audio_of(corpus: Path, record: Record) -> Path:
    """The sound file of a stored document. Raises `InputError` for a path that leaves the corpus."""
    root = corpus_root(corpus)
    if not inside(root, Path(record.audio)):
        raise InputError(f"{record.id}: the path {record.audio} leaves {root}")
    return root / record.audio


def write_frames(path: Path, recordings: Sequence[Recording], front: Front) -> None:
    """float16 `[frames, mels]` of all `recordings` in order, as a file of numpy; by all cores."""
    with atomic_path(path) as temporary:
        shape = (sum(recording.frames for recording in recordings), front.mels)
        mel = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        start = 0
        for part in track(map_in_workers(partial(_of, front), recordings), "mel", len(recordings)):
            mel[start : start + len(part)] = part
            start += len(part)
        mel.flush()


def split_frames(
    folder: Path, corpus: Path, records: Sequence[Record], frames: Sequence[int], front: Front
) -> np.ndarray:
    """float16 `[frames, mels]` of all `records` in order, `frames` of each: written into `folder` by the first of
    torchrun's processes where that is not done yet, and mapped by all of them."""
    path = folder / FRAMES_FILE
    if is_main_process() and not path.is_file():
        recordings = [
            Recording(audio_of(corpus, record), record.start, n) for record, n in zip(records, frames, strict=True)
        ]
        write_frames(path, recordings, front)
    if dist.is_initialized():
        dist.barrier()
    mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _of(front: Front, recording: Recording) -> np.ndarray:
    torch.set_num_threads(1)
    return front.of(recording)


def mean_and_deviation(mel: np.ndarray) -> tuple[float, float]:
    """Of a hundredth of the frames."""
    sample = mel[::100].astype(np.float64)
    return float(sample.mean()), float(sample.std())
