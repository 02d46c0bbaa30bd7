"""Keys and values of what was read, for rows of different lengths, with room for what is yet to come.

transformers' own cache copies all of itself for every token; here a token copies its own keys and values only. Models
whose layers remember otherwise (sliding windows, states) keep transformers' cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 64
"""Tokens that room is made for at a time."""


class RoomyLayer(DynamicLayer):
    """`keys`, `values`: `[rows, heads, time, size]`."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._length = keys.shape[2]
        self._buffers = [keys, values]
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        first, self._length = self._length, self._length + key_states.shape[2]
        if self._length > self._buffers[0].shape[2]:
            room = (0, 0, 0, self._length + ROOM - self._buffers[0].shape[2])
            self._buffers = [torch.nn.functional.pad(buffer, room) for buffer in self._buffers]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, first : self._length] = new
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self._show()


def is_plain(cache: Cache) -> bool:
    """Whether every layer remembers all keys and values as they are."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def joined(caches: Sequence[Cache]) -> Cache:
    """Plain caches of some rows each as one of all, padded on the left to the longest."""
    longest = max(cache.get_seq_length() for cache in caches)
    layers = []
    for parts in zip(*(cache.layers for cache in caches), strict=True):
        keys = torch.cat([_padded(part.keys, longest) for part in parts])
        values = torch.cat([_padded(part.values, longest) for part in parts])
        layers.append(RoomyLayer(keys, values))
    return Cache(layers=layers)


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (0, 0, length - tensor.shape[2], 0))
