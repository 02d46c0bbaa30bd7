"""The weights that a run starts from, the same whatever ranks hold them.

Every weight has one name and one shape, those of the undivided model in megatron-core's form. A source gives whole
weights by name; a rank asks for one at a time and keeps its part, so that the model is never held twice.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from typing import Any

import torch

from spiritlm.engine.backend import device

Read = Callable[[str, tuple[int, ...]], torch.Tensor]
"""A whole weight by its name and shape, of any floating type, on the CPU."""

Start = Callable[[list[Any]], None]
"""Sets the weights of bare chunks. Collective."""

_AXES = {
    "word_embeddings.weight": 0,
    "linear_qkv.weight": 0,
    "linear_qkv.bias": 0,
    "linear_proj.weight": 1,
    "linear_fc1.weight": 0,
    "linear_fc2.weight": 1,
    "output_layer.weight": 0,
}
"""Axis along which tensor-parallel ranks share a weight, by the end of its name; the others are whole on every rank."""


def mark_shared(chunk: Any) -> None:
    """Tell megatron-core which weights of a chunk tensor-parallel ranks share."""
    for name, parameter in chunk.named_parameters():
        axis = _axis(name)
        parameter.tensor_model_parallel = axis is not None
        parameter.partition_dim, parameter.partition_stride = (-1 if axis is None else axis), 1


@torch.no_grad()
def fill(chunks: list[Any], read: Read) -> None:
    """Set every weight of this rank to its part of what `read` gives."""
    from megatron.core import parallel_state

    rank = parallel_state.get_tensor_model_parallel_rank()
    ranks = parallel_state.get_tensor_model_parallel_world_size()
    for chunk in chunks:
        for local, parameter in chunk.named_parameters():
            name, axis = whole_name(chunk, local), _axis(local)
            shape = list(parameter.shape)
            if axis is not None:
                shape[axis] *= ranks
            whole = read(name, tuple(shape))
            parameter.copy_(whole if axis is None else _part(whole, local, axis, rank, ranks))


def whole_name(chunk: Any, local: str) -> str:
    """Name in the undivided model of a chunk's parameter."""
    if local == "output_layer.weight" and chunk.share_embeddings_and_output_weights:
        return "embedding.word_embeddings.weight"  # the copy that the last pipeline stage holds
    if found := re.fullmatch(r"decoder\.layers\.(\d+)\.(.*)", local):
        layer = chunk.decoder.layers[int(found[1])].layer_number - 1
        return f"decoder.layers.{layer}.{found[2]}"
    return local


def _axis(name: str) -> int | None:
    return next((axis for end, axis in _AXES.items() if name.endswith(end)), None)


def _part(whole: torch.Tensor, name: str, axis: int, rank: int, ranks: int) -> torch.Tensor:
    if name.endswith("linear_fc1.weight"):  # gate and up projection, shared out one by one
        return torch.cat([half.chunk(ranks, axis)[rank] for half in whole.chunk(2, axis)], axis)
    return whole.chunk(ranks, axis)[rank]


def drawn_weights(layers: int, std: float, seed: int) -> Read:
    """Normal weights of deviation `std`, those that write to the residual smaller by the root of twice the layers
    (GPT-2, section 2.3), norms 1 and biases 0. Every weight is drawn from its own name and the seed."""

    def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if name.endswith("norm.weight"):
            return torch.ones(shape)
        if name.endswith(".bias"):
            return torch.zeros(shape)
        writes = name.endswith(("linear_proj.weight", "linear_fc2.weight"))
        deviation = std / math.sqrt(2 * layers) if writes else std
        return torch.empty(shape).normal_(0, deviation, generator=named_generator(seed, name))

    return read


def grown_rows(old: torch.Tensor, rows: int, seed: int, name: str) -> torch.Tensor:
    """`old` `[few, hidden]` with new rows below, `[rows, hidden]`, in `old`'s type.

    New rows are normal with the mean and the covariance of the old ones.
    """
    exact = old.to(device(), torch.float32)
    mean, hidden = exact.mean(dim=0), old.shape[1]
    covariance = ((exact - mean).T @ (exact - mean) / len(old)).double()
    covariance.diagonal().add_(1e-6 * covariance.diagonal().mean())  # few old rows leave some directions empty
    factor = torch.linalg.cholesky(covariance).float()
    noise = torch.empty(rows - len(old), hidden).normal_(generator=named_generator(seed, name))
    new = mean + noise.to(device()) @ factor.T
    return torch.cat([old, new.to("cpu", old.dtype)])


def named_generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
