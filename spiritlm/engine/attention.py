"""Attention inside the documents of packed rows, with and without context parallelism.

A context-parallel rank holds two pieces of every row, one from either end, so that all ranks have the same work
under the causal mask; keys and values of the whole row are gathered. A token sees the tokens of its own document
that come before it. On a GPU each piece is one call of a variable-length flash kernel (flash-attn's where that
package is installed, else torch's own); on a CPU the same rule is a mask.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F


@dataclass(frozen=True)
class Piece:
    """A run of every row's positions, the queries; its keys are all positions up to its end.

    The kernel lines up the last query of a document with its last key, so a document that began before the piece has
    more keys than queries, and one that ended before it has no queries.
    """

    begin: int
    end: int
    cu_queries: torch.Tensor
    """int32 `[documents of all rows + 1]`: where their queries begin, rows laid end to end."""
    cu_keys: torch.Tensor
    """int32, the same for the keys."""
    longest_queries: int
    longest_keys: int

    def to(self, target: torch.device) -> Piece:
        queries, keys = (t.to(target, non_blocking=True) for t in (self.cu_queries, self.cu_keys))
        return Piece(self.begin, self.end, queries, keys, self.longest_queries, self.longest_keys)


class Documents:
    """Where the documents of a micro-batch lie; megatron-core hands it through to the attention as `PackedSeqParams`.

    Its layout of tensors stays `[time, batch, ...]`, and rotary positions run on over a row: inside a document only
    their differences count.
    """

    qkv_format, cp_group = "sbhd", None

    def __init__(self, begins: torch.Tensor, pieces: tuple[Piece, ...]) -> None:
        """`begins`: int32 `[batch, time]`: where the document of each position of the whole row begins."""
        self.begins, self.pieces = begins, pieces
        self.max_seqlen_q = self.max_seqlen_kv = begins.shape[1]

    @functools.cached_property
    def mask(self) -> torch.Tensor:
        """bool `[batch, 1, queries, time]`: what each query of this rank sees."""
        keys = torch.arange(self.begins.shape[1], device=self.begins.device)
        queries = torch.cat([keys[piece.begin : piece.end] for piece in self.pieces])
        return ((keys <= queries[:, None]) & (keys >= self.begins[:, queries, None]))[:, None]

    def to(self, target: torch.device) -> Documents:
        return Documents(self.begins.to(target, non_blocking=True), tuple(piece.to(target) for piece in self.pieces))


def documents_of(rows: Sequence[np.ndarray], context_rank: int = 0, context_ranks: int = 1) -> Documents:
    """`rows`: `cu_seqlens` of each row, int32, from 0 to its length."""
    begins = np.stack([np.repeat(cu[:-1], np.diff(cu)) for cu in rows])
    bounds = piece_bounds(begins.shape[1], context_rank, context_ranks)
    return Documents(torch.from_numpy(begins), tuple(_piece(rows, begin, end) for begin, end in bounds))


def piece_bounds(length: int, rank: int, ranks: int) -> list[tuple[int, int]]:
    """The pieces of a row of `length` positions that a context-parallel rank holds; `length` divides by `2 * ranks`."""
    if ranks == 1:
        return [(0, length)]
    size = length // (2 * ranks)
    return [(piece * size, (piece + 1) * size) for piece in (rank, 2 * ranks - 1 - rank)]


def _piece(rows: Sequence[np.ndarray], begin: int, end: int) -> Piece:
    queries, keys = [], []
    for cu in rows:
        first, last = cu[:-1], np.minimum(cu[1:], end)
        seen = first < end
        queries.append(np.maximum(last - np.maximum(first, begin), 0)[seen])
        keys.append((last - first)[seen])
    q, k = np.concatenate(queries), np.concatenate(keys)
    cu_q, cu_k = (torch.from_numpy(np.append(0, lengths.cumsum()).astype(np.int32)) for lengths in (q, k))
    return Piece(begin, end, cu_q, cu_k, int(q.max()), int(k.max()))


class DocumentAttention(torch.nn.Module):
    """Core attention of a layer; grouped queries allowed."""

    def __init__(
        self, config: Any, softmax_scale: float | None = None, pg_collection: Any = None, **unused: Any
    ) -> None:
        super().__init__()
        self.scale = softmax_scale
        self.context_group = pg_collection.cp if config.context_parallel_size > 1 else None

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: None,
        packed_seq_params: Documents | None = None,
        **unused: Any,
    ) -> torch.Tensor:
        """`query` `[time, batch, heads, channels]`, `key` and `value` `[time, batch, groups, channels]`.

        Without `packed_seq_params` every row is one document. Returns `[time, batch, heads * channels]`.
        """
        if packed_seq_params is None:
            return self._scaled_dot_product(query, key, value, mask=None)
        if self.context_group is not None:
            key, value = (gather_row(x, self.context_group) for x in (key, value))
        if query.is_cuda and query.dtype != torch.float32:  # which the kernels do not know
            return self._variable_length(query, key, value, packed_seq_params.pieces)
        return self._scaled_dot_product(query, key, value, packed_seq_params.mask)

    def _scaled_dot_product(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        query, key, value = (x.permute(1, 2, 0, 3) for x in (query, key, value))  # [batch, heads, time, channels]
        grouped = query.shape[1] != key.shape[1]
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=self.scale, enable_gqa=grouped
        )
        return mixed.permute(2, 0, 1, 3).flatten(2)

    def _variable_length(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, pieces: tuple[Piece, ...]
    ) -> torch.Tensor:
        batch, mixed, first = query.shape[1], [], 0
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))  # [batch, time, heads, channels]
        for piece in pieces:
            last = first + piece.end - piece.begin
            q = query[:, first:last].flatten(0, 1)
            k, v = (x[:, : piece.end].flatten(0, 1) for x in (key, value))
            mixed.append(variable_length_kernel()(q, k, v, piece, self.scale).unflatten(0, (batch, -1)))
            first = last
        return torch.cat(mixed, dim=1).transpose(0, 1).flatten(2)

    def sharded_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """No state: what megatron-core's checkpoints ask of a core attention."""
        return {}


Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Piece, float | None], torch.Tensor]


@functools.cache
def variable_length_kernel() -> Kernel:
    """What attends on a GPU: `[tokens, heads, channels]` to the same."""
    if importlib.util.find_spec("flash_attn"):
        return _flash_attention
    return _torch_attention


def _flash_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, piece: Piece, scale: float | None
) -> torch.Tensor:
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found, unused-ignore]

    lengths = piece.cu_queries, piece.cu_keys, piece.longest_queries, piece.longest_keys
    mixed: torch.Tensor = flash_attn_varlen_func(query, key, value, *lengths, softmax_scale=scale, causal=True)
    return mixed


def _torch_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, piece: Piece, scale: float | None
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    lengths = piece.cu_queries, piece.cu_keys, piece.longest_queries, piece.longest_keys
    grouped: dict[str, Any] = {}
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in inspect.signature(varlen_attn).parameters:
            grouped = {"enable_gqa": True}
        else:  # torch 2.11
            key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    mixed = varlen_attn(query, key, value, *lengths, scale=scale, window_size=(-1, 0), **grouped)
    assert isinstance(mixed, torch.Tensor)
    return mixed


def attention_name() -> str:
    """What attends in bf16, for the record of a run."""
    if not torch.cuda.is_available():
        return "torch scaled dot product"
    return "flash-attn" if variable_length_kernel() is _flash_attention else "torch variable-length"


class _GatherRow(torch.autograd.Function):
    """All pieces of the row in their order; the gradient of a piece is summed over the ranks."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        ranks = group.size()
        gathered = x.new_empty((ranks, *x.shape))
        dist.all_gather_into_tensor(gathered.view(-1), x.contiguous().view(-1), group=group)
        early, late = gathered.chunk(2, dim=1)  # [ranks, time / 2, ...] each
        return torch.cat([early, late.flip(0)]).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        ranks = ctx.group.size()
        early, late = grad.unflatten(0, (2 * ranks, -1)).chunk(2)
        pieces = torch.cat([early, late.flip(0)], dim=1).contiguous()  # [ranks, time, ...]
        mine = torch.empty_like(pieces[0])
        dist.reduce_scatter_tensor(mine.view(-1), pieces.view(-1), group=ctx.group)
        return mine, None


def gather_row(x: torch.Tensor, group: Any) -> torch.Tensor:
    """`[time of this rank, ...]` to `[time of the row, ...]`."""
    gathered: torch.Tensor = _GatherRow.apply(x, group)
    return gathered
