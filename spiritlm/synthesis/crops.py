"""Training batches of a speech decoder: stretches of deduplicated units with their durations and mel frames.

A batch is a pure function of (seed, step): no iterator, no state. All crops hold the same number of units, not
of frames, so that the durations at their edges are whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spiritlm.tokens.interleave import deduplicate


class UnitMelCrops:
    """Recordings as runs of equal units, beside their mel frames in one array (which may be memory-mapped)."""

    def __init__(
        self, units: Sequence[np.ndarray], speakers: Sequence[int], mel: np.ndarray, frames_per_unit: int
    ) -> None:
        """`units`: int `[n]` of each recording, not deduplicated; `speakers`: its speaker's number.

        `mel`: float `[frames, 80]` of all recordings in order, `frames_per_unit * n` of each.
        """
        runs = [deduplicate(recording) for recording in units]
        self.units = np.concatenate([values for values, _ in runs]).astype(np.int64)
        self.durations = np.concatenate([lengths for _, lengths in runs])
        self.speakers = np.asarray(speakers, dtype=np.int64)
        self.ends = np.cumsum([len(values) for values, _ in runs])  # run where each recording ends
        self.frames = frames_per_unit * np.concatenate([[0], np.cumsum(self.durations)])  # where each run begins
        self.mel = mel

    def batch(
        self, seed: int, step: int, size: int, length: int, rank: int = 0, world_size: int = 1
    ) -> dict[str, torch.Tensor]:
        """`size` crops of `length` runs, each run equally likely to begin one; a short recording is padded.

        Gives what `regression_losses` takes. With several ranks, each gets every `world_size`-th crop of the same
        batch, `size` in all.
        """
        rng = np.random.default_rng((seed, step))
        drawn = rng.integers(len(self.units), size=size)[rank::world_size]
        recordings = np.searchsorted(self.ends, drawn, side="right")
        firsts = np.concatenate([[0], self.ends])[recordings]
        starts = np.maximum(firsts, np.minimum(drawn, self.ends[recordings] - length))
        stops = np.minimum(starts + length, self.ends[recordings])

        longest = int((self.frames[stops] - self.frames[starts]).max())
        units = np.zeros((len(drawn), length), dtype=np.int64)
        durations = np.zeros_like(units)
        mel = np.zeros((len(drawn), longest, self.mel.shape[1]), dtype=np.float32)
        for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            units[row, : stop - start] = self.units[start:stop]
            durations[row, : stop - start] = self.durations[start:stop]
            frames = self.mel[self.frames[start] : self.frames[stop]]
            mel[row, : len(frames)] = frames
        arrays = {"units": units, "durations": durations, "speakers": self.speakers[recordings], "mel": mel}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class UnitCrops:
    """Recordings as units that all last as long, beside their mel frames: what a flow learns from."""

    def __init__(
        self, units: Sequence[np.ndarray], speakers: Sequence[int], mel: np.ndarray, frames_per_unit: int
    ) -> None:
        """As of `UnitMelCrops`."""
        self.units = [recording.astype(np.int64) for recording in units]
        self.speakers = np.asarray(speakers, dtype=np.int64)
        self.frames_per_unit, self.mel = frames_per_unit, mel
        lengths = np.array([len(recording) for recording in units])
        self.firsts = np.concatenate([[0], np.cumsum(lengths)])
        self.chances = lengths / lengths.sum()

    def batch(
        self, seed: int, step: int, size: int, length: int, prefix: int = 0, rank: int = 0, world_size: int = 1
    ) -> dict[str, torch.Tensor]:
        """`size` crops of at most `length` units. `prefix`: each begins with its recording and ends after a random
        multiple of so many units, as far as a stream has come.

        Gives `units` int64 `[batch, units]`, `lengths` and `speakers` int64 `[batch]`, `mel` float32
        `[batch, frames, mels]`, zeros behind the end of each; and of the runs of equal units: `runs`, `durations` int64
        `[batch, runs]`, and `whole` bool, true for those that the crop does not cut.
        """
        rng = np.random.default_rng((seed, step))
        drawn = rng.choice(len(self.units), size=size, p=self.chances)[rank::world_size]
        places = rng.random(size)[rank::world_size]
        crops = [self._crop(number, place, length, prefix) for number, place in zip(drawn, places, strict=True)]
        units = [self.units[number][start:stop] for number, start, stop in crops]
        mels = [
            self.mel[self.frames_per_unit * (self.firsts[number] + start) :][: self.frames_per_unit * (stop - start)]
            for number, start, stop in crops
        ]
        runs, durations, whole = zip(*(runs_of(self.units[number], a, b) for number, a, b in crops), strict=True)
        arrays = {
            "units": _stacked(units),
            "lengths": np.array([len(row) for row in units]),
            "speakers": self.speakers[drawn],
            "mel": _stacked(mels).astype(np.float32),
            "runs": _stacked(runs),
            "durations": _stacked(durations),
            "whole": _stacked(whole),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _crop(self, number: int, place: float, length: int, prefix: int) -> tuple[int, int, int]:
        """Recording, first unit, and unit behind the last, by `place` in [0, 1)."""
        known = len(self.units[number])
        if prefix:
            most = -(-min(known, length) // prefix)
            return number, 0, min(known, length, prefix * (1 + int(place * most)))
        start = int(place * (max(0, known - length) + 1))
        return number, start, min(known, start + length)


def runs_of(units: np.ndarray, start: int, stop: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of equal units of a recording `[n]` from `start` to `stop`: the unit and the length of each, int64, and
    whether it is whole, bool, not cut off by the stretch."""
    stop = len(units) if stop is None else stop
    values, lasting = deduplicate(units[start:stop])
    whole = np.ones(len(values), dtype=bool)
    whole[0] &= start == 0
    whole[-1] &= stop == len(units)
    return values.astype(np.int64), lasting.astype(np.int64), whole


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """`[batch, longest, ...]`, zeros behind each row."""
    stacked = np.zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]), rows[0].dtype)
    for place, row in zip(stacked, rows, strict=True):
        place[: len(row)] = row
    return stacked
