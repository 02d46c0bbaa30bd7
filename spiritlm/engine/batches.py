"""Rows of a dataset as this rank's micro-batches of a step.

Step `s` takes positions `[s * global_batch_size, (s + 1) * global_batch_size)`; data-parallel rank `r` of `n` takes
the `r`-th of `n` equal runs of them. So which rows a step sees depends on nothing but the step, and a run resumes
with any number of ranks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from spiritlm.corpus.datasets import PackedSample
from spiritlm.engine.backend import device


class Dataset(Protocol):
    """Rows by position, each a pure function of it."""

    def __getitem__(self, position: int) -> PackedSample: ...

    def shares(self, positions: int) -> dict[str, float]:
        """Share of the tokens of each source of a mixture, over the first `positions` rows."""
        ...


@dataclass(frozen=True)
class Batch:
    """A micro-batch; every tensor is `[batch, time]`."""

    input_ids: torch.Tensor
    """int64."""
    labels: torch.Tensor
    """int64: the id that follows each input id."""
    loss_mask: torch.Tensor
    """float32: 0 where a label is not learned."""
    modality: torch.Tensor
    """uint8: modality of each label."""

    @property
    def position_ids(self) -> torch.Tensor:
        """int64 `[batch, time]`."""
        rows, length = self.input_ids.shape
        return torch.arange(length, device=self.input_ids.device).expand(rows, length)

    def to(self, target: torch.device) -> Batch:
        return Batch(
            self.input_ids.to(target, non_blocking=True),
            self.labels.to(target, non_blocking=True),
            self.loss_mask.to(target, non_blocking=True),
            self.modality.to(target, non_blocking=True),
        )


def collate(samples: Sequence[PackedSample]) -> Batch:
    """Rows of one length as one micro-batch on the CPU, in page-locked memory where there is a GPU."""

    def stack(arrays: list[np.ndarray]) -> torch.Tensor:
        tensor = torch.from_numpy(np.stack(arrays))
        return tensor.pin_memory() if torch.cuda.is_available() else tensor

    return Batch(
        stack([sample.input_ids for sample in samples]),
        stack([sample.labels for sample in samples]),
        stack([sample.loss_mask for sample in samples]),
        stack([sample.modality for sample in samples]),
    )


class StepBatches:
    """Micro-batches of training steps; the next step's rows are read in a thread while this step computes."""

    def __init__(self, dataset: Dataset, global_batch_size: int, micro_batch_size: int, rank: int, ranks: int) -> None:
        self.dataset, self.global_batch_size, self.micro_batch_size = dataset, global_batch_size, micro_batch_size
        self.rank, self.ranks = rank, ranks
        self.seconds_waited = 0.0
        """Time the last `of_step` had to wait for its rows."""
        self._ahead: tuple[int, Future[list[Batch]]] | None = None

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as self._reader:
            yield

    def positions(self, step: int) -> range:
        """Dataset positions of this rank in `step`."""
        share = self.global_batch_size // self.ranks
        first = step * self.global_batch_size + self.rank * share
        return range(first, first + share)

    def of_step(self, step: int) -> list[Batch]:
        """Inside `reading_ahead` only."""
        started = time.perf_counter()
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = (step, self._reader.submit(self._read, step))
        batches = self._ahead[1].result()
        self._ahead = (step + 1, self._reader.submit(self._read, step + 1))
        self.seconds_waited = time.perf_counter() - started
        return [batch.to(device()) for batch in batches]

    def _read(self, step: int) -> list[Batch]:
        positions = self.positions(step)
        return [
            collate([self.dataset[position] for position in positions[start : start + self.micro_batch_size]])
            for start in range(0, len(positions), self.micro_batch_size)
        ]


def evaluation_batches(samples: Sequence[PackedSample], micro_batch_size: int, rank: int, ranks: int) -> list[Batch]:
    """This rank's share of `samples`; rows without loss fill up, so that all ranks have as many batches."""
    blank = replace(samples[0], loss_mask=np.zeros_like(samples[0].loss_mask))
    mine = list(samples[rank::ranks])
    most = -(-len(samples) // ranks)
    size = min(micro_batch_size, most)
    mine += [blank] * (-(-most // size) * size - len(mine))
    return [collate(mine[start : start + size]) for start in range(0, len(mine), size)]
