"""Stretches of recordings as batches of waves: what the trainers of tokenizers listen to.

Nothing is computed ahead and nothing is kept: a batch is read from the sound files when a step asks for it (`fit`
asks one step early), so a corpus may be of any size. A stretch that cannot be read is named once among the
rejects, and the next one stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import SpokenDocument
from spiritlm.errors import InputError
from spiritlm.run.rejects import Rejects

READERS = 4
"""Threads that read files."""


@dataclass(frozen=True)
class Stretch:
    """Seconds `[start, end)` of a sound file."""

    audio: Path
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def draw_hours(documents: Sequence[SpokenDocument], hours: float, seed: int) -> list[SpokenDocument]:
    """Recordings at random, without repetition, until they exceed `hours`."""
    order = np.random.default_rng(seed).permutation(len(documents))
    seconds = np.cumsum([documents[i].duration for i in order])
    return [documents[i] for i in order[: np.searchsorted(seconds, 3600 * hours) + 1]]


class Sounds:
    """The stretches of a training set, by number."""

    def __init__(
        self, stretches: Sequence[Stretch], sample_rate: int, rejects: Rejects, total: int | None = None
    ) -> None:
        """`total`: items that `rejects` is judged against, where there are more than these stretches."""
        if not stretches:
            raise InputError("there is no recording to train on")
        self.stretches, self.sample_rate, self.rejects = stretches, sample_rate, rejects
        self.total = total or len(stretches)
        self._pool = ThreadPoolExecutor(READERS)

    def read(self, numbers: Iterable[int]) -> tuple[list[int], list[np.ndarray]]:
        """Waves, float32 `[samples]` each, and the numbers of the stretches they are: of a stretch that cannot be
        read, the next one that can. Raises `InputError` where too many cannot."""
        found = list(self._pool.map(self._first_readable, numbers))
        return [number for number, _ in found], [wave for _, wave in found]

    def _first_readable(self, number: int) -> tuple[int, np.ndarray]:
        for _ in self.stretches:
            stretch = self.stretches[number]
            try:
                return number, read_audio(stretch.audio, self.sample_rate, stretch.start, stretch.end)
            except InputError as error:
                self.rejects.add(f"{stretch.audio} {stretch.start:.2f}-{stretch.end:.2f}", str(error))
                self.rejects.require_few(self.total)
            number = (number + 1) % len(self.stretches)
        raise InputError(f"none of {len(self.stretches)} recordings can be read")


def padded(waves: Sequence[np.ndarray], multiple: int = 1) -> dict[str, torch.Tensor]:
    """`waves` float32 `[batch, longest]`, a `multiple` of samples, zeros behind each; `samples` int64 `[batch]`."""
    samples = torch.tensor([len(wave) for wave in waves])
    batch = torch.zeros(len(waves), -(-int(samples.max()) // multiple) * multiple)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return {"waves": batch, "samples": samples}


class LengthBatches:
    """Which stretches a step takes: of about one length, so that little of a batch is padding."""

    def __init__(self, seconds: np.ndarray, budget: float, seed: int, least: int = 1) -> None:
        """`seconds`: float `[stretches]`; `budget`: seconds of a batch, padding included; `least`: stretches of a
        batch, for example one for each process. Raises `InputError` where the budget or the set is too small."""
        self.seconds, self.seed = seconds, seed
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None
        self.bounds = [0]
        for number, longest in enumerate(np.sort(seconds)):
            if number > self.bounds[-1] and (number + 1 - self.bounds[-1]) * longest > budget:
                self.bounds.append(number)
        if len(self.bounds) > 1 and len(seconds) - self.bounds[-1] < least:
            self.bounds.pop()
        self.bounds.append(len(seconds))
        if (fewest := int(np.diff(self.bounds).min())) < least:
            raise InputError(f"batches of {budget:g} s hold {fewest} recordings at least, expected {least}")

    def of_step(self, step: int) -> np.ndarray:
        """Numbers of stretches, int `[batch]`: a pure function of (seed, step).

        An epoch sorts all by their lengths, each shaken by up to a tenth, cuts them in batches and shuffles those; who
        is in a batch together changes from epoch to epoch.
        """
        batches = len(self.bounds) - 1
        epoch, number = divmod(step, batches)
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng((self.seed, epoch))
            order = np.argsort(self.seconds * rng.uniform(0.9, 1.1, len(self.seconds)), kind="stable")
            self._epoch = epoch, order, rng.permutation(batches)
        _, order, shuffled = self._epoch
        chosen = shuffled[number]
        return order[self.bounds[chosen] : self.bounds[chosen + 1]]
