"""What the layers of a network that hears a stream block by block remember of earlier blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Memory:
    """Of one layer: the keys and values of its attention, and the tail of what its convolution has heard."""

    def __init__(self, most_keys: int | None = None) -> None:
        """`most_keys`: latest keys that later blocks still see; all of them by default."""
        self.most_keys = most_keys
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None
        self.tail: torch.Tensor | None = None

    def extend(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values `[batch, heads, time, size]` that are seen, with the new ones at their end."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        first = 0 if self.most_keys is None else max(0, keys.shape[2] - self.most_keys)
        self.keys, self.values = keys[:, :, first:], values[:, :, first:]
        return keys, values

    def prepend(self, x: torch.Tensor, reach: int) -> torch.Tensor:
        """`x` `[batch, channels, time]` behind the `reach` frames before it, zeros at the start of the stream."""
        heard = F.pad(x, (reach, 0)) if self.tail is None else torch.cat([self.tail, x], dim=2)
        self.tail = heard[:, :, heard.shape[2] - reach :]
        return heard


class Memories(dict[nn.Module, Memory]):
    """The memory of every layer of a network, made when it is first asked for."""

    def __init__(self, most_keys: int | None = None) -> None:
        super().__init__()
        self._most_keys = most_keys

    def __missing__(self, layer: nn.Module) -> Memory:
        self[layer] = Memory(self._most_keys)
        return self[layer]


def memory_of(layer: nn.Module, memories: Memories | None) -> Memory | None:
    """None outside a stream."""
    return None if memories is None else memories[layer]


def after(x: torch.Tensor, reach: int, memory: Memory | None) -> torch.Tensor:
    """What a causal convolution over `reach + 1` frames hears: `x` `[batch, channels, time]` behind those before it."""
    return F.pad(x, (reach, 0)) if memory is None else memory.prepend(x, reach)


def block_mask(time: int, block: int, left_blocks: int | None, device: torch.device) -> torch.Tensor:
    """bool `[time, time]`, true where a frame sees another: in its own block of `block` frames and in the `left_blocks`
    blocks before it, or in all before it."""
    number = torch.arange(time, device=device) // block
    behind = number[:, None] - number
    return (behind >= 0) & (behind <= (time if left_blocks is None else left_blocks))


def none_blind(seen: torch.Tensor) -> torch.Tensor:
    """`seen` bool `[..., time, time]`, but a frame that sees nothing (behind the end of a row) sees itself: no softmax
    is empty."""
    itself = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
    return seen | (itself & ~seen.any(-1, keepdim=True))
