"""Training batches of an aligner: sentences, as mel frames and labels.

A batch is a pure function of (seed, step): no iterator, no state. A batch holds sentences of about one length, so
that little of it is padding; who is in it together changes from epoch to epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from spiritlm.alignment.mel_ctc import STACKED
from spiritlm.audio.mel import FLOOR


class SentenceCrops:
    """Labels of sentences, beside their mel frames in one array (which may be memory-mapped)."""

    def __init__(self, labels: Sequence[np.ndarray], starts: np.ndarray, ends: np.ndarray, mel: np.ndarray) -> None:
        """`labels`: int `[n]` of each sentence; `starts`, `ends`: int `[sentences]`, rows of `mel`, float
        `[frames, 80]`; each sentence has an even number of them."""
        self.labels, self.starts, self.ends, self.mel = labels, starts, ends, mel

    def batch(self, seed: int, step: int, size: int, rank: int = 0, world_size: int = 1) -> dict[str, torch.Tensor]:
        """`size` sentences, or all if there are fewer. Gives what `ctc_losses` takes.

        With several ranks, each gets every `world_size`-th sentence of the same batch, `size` in all.
        """
        chosen = self._chosen(seed, step, size)[rank::world_size]
        lengths = self.ends[chosen] - self.starts[chosen]
        counts = np.array([len(self.labels[i]) for i in chosen])
        mel = np.full((len(chosen), lengths.max(), self.mel.shape[1]), math.log10(FLOOR), dtype=np.float32)
        labels = np.zeros((len(chosen), counts.max()), dtype=np.int64)
        for row, sentence in enumerate(chosen):
            mel[row, : lengths[row]] = self.mel[self.starts[sentence] : self.ends[sentence]]
            labels[row, : counts[row]] = self.labels[sentence]
        arrays = {"mel": mel, "lengths": lengths // STACKED, "labels": labels, "label_counts": counts}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _chosen(self, seed: int, step: int, size: int) -> np.ndarray:
        """Sentences of a step: sorted by their lengths, shaken by a tenth, cut in batches, the batches shuffled."""
        batches = max(1, len(self.labels) // size)
        epoch, number = divmod(step, batches)
        rng = np.random.default_rng((seed, epoch))
        shaken = (self.ends - self.starts) * rng.uniform(0.9, 1.1, len(self.starts))
        first = int(rng.integers(len(shaken) - batches * size + 1)) if len(shaken) > size else 0
        return np.argsort(shaken, kind="stable")[first + size * rng.permutation(batches)[number] :][:size]
