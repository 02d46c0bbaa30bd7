"""Passes of micro-batches through the model, whatever ranks share it: with a backward pass, for a loss, for ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from spiritlm.corpus.datasets import PackedSample
from spiritlm.engine.attention import piece_bounds
from spiritlm.engine.backend import device
from spiritlm.engine.batches import Batch, evaluation_batches
from spiritlm.engine.checkpoint import bare
from spiritlm.engine.loss import reduced_losses, reported_losses
from spiritlm.engine.parallel import Place
from spiritlm.tokens.interleave import MODALITIES


class Passes:
    """Every method is collective over the ranks that hold the model."""

    def __init__(self, chunks: list[Any], place: Place, loss_weights: Mapping[str, float]) -> None:
        """`chunks`: what `wrap_data_parallel` gave. `loss_weights`: see `TrainingConfig`."""
        self.chunks, self.place = chunks, place
        self._weighted = bool(loss_weights)
        self._weights = torch.tensor([loss_weights.get(name, 1.0) for name in MODALITIES], device=device())
        self._whole = False
        stages = chunks[0].config.pipeline_model_parallel_size
        self.multiple = stages if len(chunks) > 1 else 1
        """Virtual stages take micro-batches by so many at a time."""

    def forward_backward(self, batches: list[Batch]) -> dict[str, float]:
        """Sum the gradients of a step. Returns its losses as `reduced_losses` names them."""
        for chunk in self.chunks:
            chunk.train()
        return reduced_losses(self._run(batches, self._loss_step, forward_only=False))

    def evaluate(self, batches: list[Batch]) -> dict[str, float]:
        """Losses of the batches of all data ranks."""
        with self._still():
            return reduced_losses(self._run(batches, self._loss_step, forward_only=True))

    def next_ids(self, rows: Sequence[PackedSample]) -> np.ndarray:
        """The likeliest id after each position, int64 `[rows, sequence_length]`, on every rank; all give the same rows
        and hold them in memory at once."""
        alone = replace(self.place, data_rank=0, data_ranks=1)
        batches = evaluation_batches(rows, 1, alone, self.multiple)
        models = [bare(chunk) for chunk in self.chunks]
        for model in models:
            model.gives_ids = True
        try:
            with self._still():
                found = self._run(batches, self._ids_step, forward_only=True)
        finally:
            for model in models:
                model.gives_ids = False
        return self._on_every_rank(found, batches)[: len(rows)].cpu().numpy()

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """Inside, every rank has the weights of the last step; else they arrive while the next step needs them. May be
        entered again inside itself."""
        overlapped = [] if self._whole else [c for c in self.chunks if c.ddp_config.overlap_param_gather]
        before, self._whole = self._whole, True
        for chunk in overlapped:
            chunk.disable_forward_pre_hook()
        yield
        for chunk in overlapped:
            chunk.enable_forward_pre_hook()
        self._whole = before

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Nothing is learned inside."""
        for chunk in self.chunks:
            chunk.eval()
        with torch.no_grad(), self.whole_weights():
            yield

    def _run(self, batches: list[Batch], step: Callable[..., Any], forward_only: bool) -> list[Any]:
        """What `step` leaves of each micro-batch, on the last pipeline stage; elsewhere nothing."""
        from megatron.core.pipeline_parallel import get_forward_backward_func

        iterators = [(batch.to(device()) for batch in batches) for _ in self.chunks]
        results: list[Any] = get_forward_backward_func()(
            forward_step_func=step,
            data_iterator=iterators if len(iterators) > 1 else iterators[0],
            model=self.chunks if len(self.chunks) > 1 else self.chunks[0],
            num_microbatches=len(batches),
            seq_length=batches[0].input_ids.shape[1] * self.place.context_ranks,
            micro_batch_size=len(batches[0].input_ids),
            forward_only=forward_only,
        )
        return results

    def _loss_step(self, iterator: Iterator[Batch], chunk: Any) -> tuple[Any, Any]:
        batch = next(iterator)
        weights = batch.loss_mask
        if self._weighted:
            weights = weights * self._weights[batch.modality.long()]
        output = chunk(
            batch.input_ids, None, None, labels=batch.labels, loss_mask=weights, packed_seq_params=batch.documents
        )

        def loss(output: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return output[0], *reported_losses(output[1], batch)

        return output, loss

    @staticmethod
    def _ids_step(iterator: Iterator[Batch], chunk: Any) -> tuple[Any, None]:
        batch = next(iterator)
        return chunk(batch.input_ids, None, None, packed_seq_params=batch.documents), None

    def _on_every_rank(self, found: list[torch.Tensor], batches: list[Batch]) -> torch.Tensor:
        """`found`: `[1, time of this context rank]` of each batch, on the last pipeline stage."""
        from megatron.core import parallel_state

        pieces = torch.cat(found) if found else torch.empty_like(torch.cat([b.input_ids for b in batches]).to(device()))
        dist.broadcast(
            pieces,
            parallel_state.get_pipeline_model_parallel_last_rank(),
            group=parallel_state.get_pipeline_model_parallel_group(),
        )
        ranks = self.place.context_ranks
        if ranks == 1:
            return pieces
        of_ranks = [torch.empty_like(pieces) for _ in range(ranks)]
        dist.all_gather(of_ranks, pieces, group=parallel_state.get_context_parallel_group())
        whole = pieces.new_empty(len(pieces), ranks * pieces.shape[1])
        for rank, of_rank in enumerate(of_ranks):
            first, second = piece_bounds(whole.shape[1], rank, ranks)
            whole[:, slice(*first)], whole[:, slice(*second)] = of_rank.chunk(2, dim=1)
        return whole
