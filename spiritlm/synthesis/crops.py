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
