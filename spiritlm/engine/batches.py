"""Rows of a dataset as this rank's micro-batches of a step.

Step `s` takes positions `[s * global_batch_size, (s + 1) * global_batch_size)`; data-parallel rank `r` of `n` takes
the `r`-th of `n` equal runs of them. So which rows a step sees depends on nothing but the step, and a run resumes
with any number of ranks. The ranks of one model read the same rows; context-parallel ones keep their pieces of each.
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
from spiritlm.engine.attention import Documents, documents_of, piece_bounds
from spiritlm.engine.parallel import Place


class Dataset(Protocol):
    """Rows by position, each a pure function of it."""

    def __getitem__(self, position: int) -> PackedSample: ...

    def shares(self, positions: int) -> dict[str, float]:
        """Share of the tokens of each source of a mixture, over the first `positions` rows."""
        ...

    def documents(self, position: int) -> list[str]:
        """Ids of the documents that a row holds tokens of."""
        ...


@dataclass(frozen=True)
class Batch:
    """A micro-batch; every tensor is `[batch, time]`, the time that this context-parallel rank holds."""

    input_ids: torch.Tensor
    """int64."""
    labels: torch.Tensor
    """int64: the id that follows each input id."""
    loss_mask: torch.Tensor
    """float32: 0 where a label is not learned."""
    modality: torch.Tensor
    """uint8: modality of each label."""
    documents: Documents

    def to(self, target: torch.device) -> Batch:
        return Batch(
            self.input_ids.to(target, non_blocking=True),
            self.labels.to(target, non_blocking=True),
            self.loss_mask.to(target, non_blocking=True),
            self.modality.to(target, non_blocking=True),
            self.documents.to(target),
        )


def collate(samples: Sequence[PackedSample], place: Place | None = None) -> Batch:
    """Rows of one length as one micro-batch on the CPU, in page-locked memory where there is a GPU."""
    place = place or Place()
    pieces = piece_bounds(len(samples[0].input_ids), place.context_rank, place.context_ranks)

    def stack(arrays: list[np.ndarray]) -> torch.Tensor:
        rows = np.stack(arrays)
        tensor = torch.from_numpy(np.concatenate([rows[:, begin:end] for begin, end in pieces], axis=1))
        return tensor.pin_memory() if torch.cuda.is_available() else tensor

    return Batch(
        stack([sample.input_ids for sample in samples]),
        stack([sample.labels for sample in samples]),
        stack([sample.loss_mask for sample in samples]),
        stack([sample.modality for sample in samples]),
        documents_of([sample.cu_seqlens for sample in samples], place.context_rank, place.context_ranks),
    )


class StepBatches:
    """Micro-batches of training steps; the next step's rows are read in a thread while this step computes."""

    def __init__(self, dataset: Dataset, global_batch_size: int, micro_batch_size: int, place: Place) -> None:
        self.dataset, self.global_batch_size, self.micro_batch_size = dataset, global_batch_size, micro_batch_size
        self.place = place
        self.seconds_waited = 0.0
        """Time the last `of_step` had to wait for its rows."""
        self._ahead: tuple[int, Future[list[Batch]]] | None = None

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as self._reader:
            yield

    def positions(self, step: int) -> range:
        """Dataset positions of this rank in `step`."""
        share = self.global_batch_size // self.place.data_ranks
        first = step * self.global_batch_size + self.place.data_rank * share
        return range(first, first + share)

    def of_step(self, step: int) -> list[Batch]:
        """Inside `reading_ahead` only."""
        started = time.perf_counter()
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = (step, self._reader.submit(self._read, step))
        batches = self._ahead[1].result()
        self._ahead = (step + 1, self._reader.submit(self._read, step + 1))
        self.seconds_waited = time.perf_counter() - started
        return batches

    def _read(self, step: int) -> list[Batch]:
        positions = self.positions(step)
        return [
            collate(
                [self.dataset[position] for position in positions[start : start + self.micro_batch_size]], self.place
            )
            for start in range(0, len(positions), self.micro_batch_size)
        ]


def evaluation_batches(
    samples: Sequence[PackedSample], micro_batch_size: int, place: Place, multiple_of: int = 1
) -> list[Batch]:
    """This rank's share of `samples`; rows without loss fill up, so that all ranks have as many batches of one size.

    `multiple_of`: what the number of batches is rounded up to.
    """
    blank = replace(samples[0], loss_mask=np.zeros_like(samples[0].loss_mask))
    mine = list(samples[place.data_rank :: place.data_ranks])
    most = -(-len(samples) // place.data_ranks)
    size = min(micro_batch_size, most)
    unit = size * multiple_of
    mine += [blank] * (-(-most // unit) * unit - len(mine))
    return [collate(mine[start : start + size], place) for start in range(0, len(mine), size)]
