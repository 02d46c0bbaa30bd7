"""A corpus as units in one file, and crops of its sound beside the units said in them: targets to train on.

Every recording is encoded once, whole, by all processes together; then a batch reads pieces of sound files and the
units at their places. Memory does not grow with the corpus, the file takes two bytes a unit (four above 32,767 units).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from spiritlm.audio.augment import AugmentRecipe, augmented, change_speed, draw_speed
from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import SpokenDocument
from spiritlm.corpus.sounds import Sounds, Stretch, padded
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path, read_json, write_json
from spiritlm.run.progress import progress
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import is_main_process
from spiritlm.units.hubert_encoder import SAMPLE_RATE
from spiritlm.units.hubert_pretraining import NO_UNIT
from spiritlm.units.protocol import SpeechTokenizer, checked_wave

TARGETS_FILE, UNREADABLE_FILE = "targets.npy", "unreadable.json"
TOGETHER = 16
"""Recordings that are read and encoded together."""
PIECE_CROPS = 4
"""Longer recordings are read in pieces of about so many crops."""


@dataclass(frozen=True)
class UnitTargets:
    """Units of recordings, one after the other."""

    units: np.ndarray
    """int `[units]` of all, memory-mapped; `NO_UNIT` where a recording could not be read or is shorter than stated."""
    starts: np.ndarray
    """int64 `[recordings + 1]`."""
    rate: float
    """Units per second."""
    unreadable: dict[str, str]
    """Why, by id."""

    def remove_file(self, folder: Path) -> None:
        """They can be made again."""
        for name in (TARGETS_FILE, UNREADABLE_FILE):
            (folder / name).unlink(missing_ok=True)


def encode_targets(
    documents: Sequence[SpokenDocument], root: Path, tokenizer: SpeechTokenizer, folder: Path, rate: float
) -> UnitTargets:
    """Units of `documents`, encoded by all processes into `folder` unless they are there already.

    `rate`: units per second that are expected. Raises `InputError` where the tokenizer has another rate."""
    counts = [int(np.ceil(round(d.duration * SAMPLE_RATE) * rate / SAMPLE_RATE)) for d in documents]
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    finished = (folder / UNREADABLE_FILE).is_file()
    _barrier()  # nobody looks after the first process has begun to write
    if not finished:
        _encode(documents, root, tokenizer, folder, rate, starts)
    units = np.load(folder / TARGETS_FILE, mmap_mode="r", allow_pickle=False)
    return UnitTargets(units, starts, rate, dict(read_json(folder / UNREADABLE_FILE)))


def _encode(
    documents: Sequence[SpokenDocument],
    root: Path,
    tokenizer: SpeechTokenizer,
    folder: Path,
    rate: float,
    starts: np.ndarray,
) -> None:
    if tokenizer.rate != rate or tokenizer.sample_rate != SAMPLE_RATE:
        given = f"{tokenizer.rate:g} units a second of sound at {tokenizer.sample_rate} Hz"
        raise InputError(f"targets: the tokenizer gives {given}, expected {rate:g} of sound at {SAMPLE_RATE} Hz")
    dtype = np.dtype(np.int16 if tokenizer.vocabulary_size <= 2**15 else np.int32)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = np.array_split(np.arange(len(documents)), ranks)[rank].tolist()
    unreadable = _encode_part(documents, root, tokenizer, _own_part(folder, rank, ranks), mine, starts, dtype)
    everyones: list[dict[str, str]] = [unreadable]
    if dist.is_initialized():
        everyones = [{} for _ in range(ranks)]
        dist.all_gather_object(everyones, unreadable)
    if is_main_process():
        with atomic_path(folder / TARGETS_FILE) as temporary:
            units, at = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=(int(starts[-1]),)), 0
            for other in range(ranks):
                part = np.fromfile(_own_part(folder, other, ranks), dtype)
                units[at : at + len(part)] = part
                at += len(part)
            units.flush()
        write_json(folder / UNREADABLE_FILE, {id: why for part in everyones for id, why in part.items()})
        for left in folder.glob("targets-*.bin"):
            left.unlink()
    _barrier()


def _encode_part(
    documents: Sequence[SpokenDocument],
    root: Path,
    tokenizer: SpeechTokenizer,
    path: Path,
    mine: list[int],
    starts: np.ndarray,
    dtype: np.dtype[Any],
) -> dict[str, str]:
    """Units of `documents[mine]` appended to `path`, after those of an earlier start; why some are absent, by id."""
    bounds = starts[mine[0] : mine[-1] + 2] - starts[mine[0]] if mine else np.zeros(1, np.int64)
    path.touch()
    done = int(np.searchsorted(bounds[1:] * dtype.itemsize, path.stat().st_size, side="right"))
    os.truncate(path, int(bounds[done]) * dtype.itemsize)
    earlier = np.split(np.fromfile(path, dtype), bounds[1:done])
    unreadable = {
        documents[number].id: "it could not be read before a stop"
        for number, units in zip(mine[:done], earlier, strict=False)
        if len(units) and (units == NO_UNIT).all()
    }
    with path.open("ab") as file, progress("targets", len(mine), done) as bar:
        for first in range(done, len(mine), TOGETHER):
            chosen = mine[first : first + TOGETHER]
            waves: dict[int, np.ndarray] = {}
            for number in chosen:
                try:
                    waves[number] = checked_wave(
                        read_audio(root / documents[number].audio, SAMPLE_RATE), SAMPLE_RATE, SAMPLE_RATE
                    )
                except InputError as error:
                    unreadable[documents[number].id] = str(error)
            found = dict(zip(waves, tokenizer.encode_batch(list(waves.values()), SAMPLE_RATE), strict=True))
            for number in chosen:
                part = np.full(starts[number + 1] - starts[number], NO_UNIT, dtype)
                if number in found:
                    units = found[number].semantic.values[: len(part)]
                    part[: len(units)] = units
                part.tofile(file)
            file.flush()
            bar.advance(len(chosen))
    return unreadable


def _own_part(folder: Path, rank: int, ranks: int) -> Path:
    """A file of its own for each process: on a shared file system, two would overwrite each other's pages."""
    return folder / f"targets-{rank}-of-{ranks}.bin"


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


class TargetCrops:
    """Crops at random places of recordings, each second equally likely, with the units at their places."""

    def __init__(
        self,
        documents: Sequence[SpokenDocument],
        root: Path,
        targets: UnitTargets,
        frames: int,
        rejects: Rejects,
        augment: AugmentRecipe,
    ) -> None:
        """`frames`: units of a crop. Raises `InputError` where no recording is left."""
        self.targets, self.frames, self.augment = targets, frames, augment
        stretches, self.firsts, self.counts = [], [], []
        for number, document in enumerate(documents):
            if document.id in targets.unreadable:
                continue
            first, last = targets.starts[number : number + 2]
            pieces = max(1, (last - first) // (PIECE_CROPS * frames))
            for piece in np.array_split(np.arange(first, last), pieces):
                start, end = (piece[0] - first) / targets.rate, (piece[-1] + 1 - first) / targets.rate
                stretches.append(Stretch(root / document.audio, start, end))
                self.firsts.append(int(piece[0]))
                self.counts.append(len(piece))
        self.sounds = Sounds(stretches, SAMPLE_RATE, rejects)
        seconds = np.array([stretch.seconds for stretch in stretches])
        self.chances = seconds / seconds.sum()

    def batch(
        self, seed: int, step: int, size: int, window: int, rank: int = 0, world_size: int = 1
    ) -> dict[str, torch.Tensor]:
        """`size` crops, with several ranks every `world_size`-th of them: `waves` float32 `[batch, samples]`,
        `samples` int64 `[batch]`, `targets` int64 `[batch, frames]`, `NO_UNIT` where there is none.

        `window`: samples that one frame hears; a wave has just the samples that its frames need. Where the speed is
        changed, a frame's target is the unit that is said in its middle.
        """
        rng = np.random.default_rng((seed, step))
        numbers = rng.choice(len(self.firsts), size, p=self.chances)[rank::world_size]
        seeds = rng.integers(2**32, size=size)[rank::world_size]
        read, waves = self.sounds.read(numbers)
        rows = [
            self._crop(number, wave, window, np.random.default_rng(s))
            for number, wave, s in zip(read, waves, seeds, strict=True)
        ]
        targets = np.full((len(rows), max(len(units) for _, units in rows)), NO_UNIT, dtype=np.int64)
        for row, (_, units) in zip(targets, rows, strict=True):
            row[: len(units)] = units
        return {**padded([wave for wave, _ in rows]), "targets": torch.from_numpy(targets)}

    def _crop(
        self, number: int, wave: np.ndarray, window: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A wave and its units."""
        hop = round(SAMPLE_RATE / self.targets.rate)
        speed = draw_speed(self.augment, rng)
        available = min(-(-len(wave) // hop), self.counts[number])
        start = rng.integers(max(1, available - round(self.frames * speed) + 1))
        frames = max(1, min(self.frames, int((available - start) / speed)))
        samples = (frames - 1) * hop + window
        part = wave[start * hop : start * hop + int(np.ceil(samples * speed)) + 1]
        part = augmented(change_speed(part, speed, samples), SAMPLE_RATE, self.augment, rng)
        places = start + ((np.arange(frames) + 0.5) * speed).astype(np.int64)
        return np.pad(part, (0, samples - len(part))), self.targets.units[self.firsts[number] + places]
