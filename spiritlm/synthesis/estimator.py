"""The network that estimates the flow's velocity: residual convolutions and transformers, U-shaped where asked.

What is noisy, what the encoder says, who speaks and what is already known come in as one stack of channels, frame by
frame, with the time of the flow; the velocity of every mel frame goes out. Two kinds, with the state names of the
published `decoder.estimator.*`:

- whole (Matcha-TTS, CosyVoice 1, GLM-4-Voice): convolutions and group norms hear the whole utterance, both halves of
  the U at halved rates but the last;
- causal (CosyVoice 2): convolutions look back only, norms are per frame, and attention goes by blocks. Each block is
  estimated once, given the memories of those before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import PositiveInt, model_validator
from torch import nn

from spiritlm.config import Recipe
from spiritlm.run.memory import Memories, block_mask, none_blind
from spiritlm.synthesis.convolution import CausalConv1d

GROUPS = 8
"""Of the norms of a whole estimator."""


class EstimatorShape(Recipe):
    """Size and kind of the estimator."""

    channels: tuple[PositiveInt, ...] = (256, 256)
    """Of each level, between which the rate is halved; a causal estimator has one."""
    blocks: PositiveInt = 4
    """Transformer layers of a level, and of a middle one."""
    mid_blocks: PositiveInt = 12
    """Levels in the middle."""
    heads: PositiveInt = 8
    head_size: PositiveInt = 64
    causal: bool = False
    block: PositiveInt | None = None
    """Mel frames of an attention block (causal)."""
    left_blocks: PositiveInt | None = None
    """Blocks before its own that a frame attends to; all of them by default."""
    published_mask: bool = False
    """As GLM-4-Voice does, attention and group norm hear what stands behind the end of a shorter row in a batch; by
    default attention hears no padding."""

    @model_validator(mode="after")
    def _fits_together(self) -> EstimatorShape:
        if not self.channels or (self.causal and len(self.channels) > 1):
            raise ValueError("channels: expected at least one level, and one of a causal estimator")
        if not self.causal and any(width % GROUPS for width in self.channels):
            raise ValueError(f"channels: expected multiples of {GROUPS}, the groups of their norms")
        if not self.causal and self.block is not None:
            raise ValueError("block: only a causal estimator works by blocks")
        return self


class Frames:
    """Which frames of a batch are true, at one rate: what a layer masks with."""

    def __init__(self, mask: torch.Tensor, shape: EstimatorShape, blocks: bool) -> None:
        """`mask` float `[batch, 1, time]`: 0 behind the end of a row."""
        self.mask, self._shape, self._blocks = mask, shape, blocks
        self.attention = self._attention()

    def _attention(self) -> torch.Tensor:
        """Added to the logits, broadcast to `[batch, 1, time, time]`."""
        valid, time = self.mask[:, :, None] > 0, self.mask.shape[2]  # [batch, 1, 1, time]
        if self._shape.published_mask:
            return self.mask[:, :, :, None] * self.mask[:, :, None]
        if self._blocks and self._shape.block is not None:
            valid = none_blind(valid & block_mask(time, self._shape.block, self._shape.left_blocks, valid.device))
        return torch.zeros_like(valid, dtype=self.mask.dtype).masked_fill(~valid, -torch.inf)

    def halved(self) -> Frames:
        return Frames(self.mask[:, :, ::2], self._shape, self._blocks)


class FrameNorm(nn.LayerNorm):
    """A layer norm over the channels of `[batch, channels, time]`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ConvBlock(nn.Module):
    """Convolution, norm and Mish. State: `block.0`, and the norm at `block.1`, causal `block.2`."""

    def __init__(self, inputs: int, outputs: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.block = (
            nn.Sequential(CausalConv1d(inputs, outputs, 3), nn.Identity(), FrameNorm(outputs), nn.Identity(), nn.Mish())
            if causal
            else nn.Sequential(nn.Conv1d(inputs, outputs, 3, padding=1), nn.GroupNorm(GROUPS, outputs), nn.Mish())
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor, memories: Memories | None) -> torch.Tensor:
        conv, *rest = self.block
        x = conv(x * mask, memories) if self.causal else conv(x * mask)
        for layer in rest:
            x = layer(x)
        return x * mask


class ResidualBlock(nn.Module):
    """Two `ConvBlock`s with the time of the flow between them, beside a pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, time_size: int, causal: bool) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time_size, outputs))
        self.block1 = ConvBlock(inputs, outputs, causal)
        self.block2 = ConvBlock(outputs, outputs, causal)
        self.res_conv = nn.Conv1d(inputs, outputs, 1)

    def forward(
        self, x: torch.Tensor, time: torch.Tensor, mask: torch.Tensor, memories: Memories | None
    ) -> torch.Tensor:
        h = self.block1(x, mask, memories) + self.mlp(time)[:, :, None]
        return self.block2(h, mask, memories) + self.res_conv(x * mask)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, head_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * head_size, bias=False)
        self.to_k = nn.Linear(width, heads * head_size, bias=False)
        self.to_v = nn.Linear(width, heads * head_size, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_size, width), nn.Identity())

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None, memories: Memories | None) -> torch.Tensor:
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.to_q, self.to_k, self.to_v)
        )
        if memories is not None:
            k, v = memories[self].extend(k, v)
        return self.to_out(F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2))


class Expand(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.proj(x))


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Expand(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class TransformerLayer(nn.Module):
    def __init__(self, width: int, shape: EstimatorShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, shape.heads, shape.head_size)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None, memories: Memories | None) -> torch.Tensor:
        x = x + self.attn1(self.norm1(x), bias, memories)
        return x + self.ff(self.norm3(x))


class Level(nn.ModuleList):
    """A residual block, transformer layers and, at the ends of the U, what leads to the next level."""

    def __init__(self, inputs: int, outputs: int, time_size: int, shape: EstimatorShape, *tail: nn.Module) -> None:
        layers = nn.ModuleList(TransformerLayer(outputs, shape) for _ in range(shape.blocks))
        super().__init__([ResidualBlock(inputs, outputs, time_size, shape.causal), layers, *tail])

    def forward(
        self, x: torch.Tensor, time: torch.Tensor, frames: Frames | None, memories: Memories | None
    ) -> torch.Tensor:
        x = self[0](x, time, _mask(x, frames), memories).transpose(1, 2)
        for layer in cast(nn.ModuleList, self[1]):
            x = layer(x, None if frames is None else frames.attention, memories)
        return x.transpose(1, 2)

    def tail(self, x: torch.Tensor, memories: Memories | None) -> torch.Tensor:
        return self[2](x, memories) if isinstance(self[2], CausalConv1d) else self[2](x)


def _levels(blocks: nn.ModuleList) -> Iterator[Level]:
    for level in blocks:
        assert isinstance(level, Level)
        yield level


class Halve(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Double(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(width, width, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class TimeEmbedding(nn.Module):
    """Sines and cosines of the flow's time, a thousandfold, through two layers."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        """float `[batch]` in [0, 1] -> `[batch, width]`."""
        half = self.inputs // 2
        rates = torch.exp(torch.arange(half, device=time.device) * -(math.log(10000) / (half - 1)))
        angles = 1000 * time[:, None] * rates
        return self.linear_2(F.silu(self.linear_1(torch.cat([angles.sin(), angles.cos()], dim=-1))))


class Estimator(nn.Module):
    """See the module's docstring."""

    def __init__(self, inputs: int, outputs: int, shape: EstimatorShape) -> None:
        """`inputs`: channels of all that comes in, `outputs`: mel bins."""
        super().__init__()
        self.shape = shape
        channels, causal = shape.channels, shape.causal
        time_size, last = 4 * channels[0], len(channels) - 1
        self.time_mlp = TimeEmbedding(inputs, time_size)

        def flat(width: int) -> nn.Module:
            return CausalConv1d(width, width, 3) if causal else nn.Conv1d(width, width, 3, padding=1)

        self.down_blocks = nn.ModuleList(
            Level(wide, width, time_size, shape, flat(width) if level == last else Halve(width))
            for level, (wide, width) in enumerate(zip((inputs, *channels), channels, strict=False))
        )
        self.mid_blocks = nn.ModuleList(
            Level(channels[-1], channels[-1], time_size, shape) for _ in range(shape.mid_blocks)
        )
        up = (*channels[::-1], channels[0])
        self.up_blocks = nn.ModuleList(
            Level(2 * wide, width, time_size, shape, flat(width) if level == last else Double(width))
            for level, (wide, width) in enumerate(pairwise(up))
        )
        self.final_block = ConvBlock(channels[0], channels[0], causal)
        self.final_proj = nn.Conv1d(channels[0], outputs, 1)

    def memories(self) -> Memories:
        """Of a stream that is about to begin."""
        shape = self.shape
        return Memories(None if shape.left_blocks is None or shape.block is None else shape.left_blocks * shape.block)

    def forward(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        mask: torch.Tensor | None = None,
        blocks: bool = True,
        memories: Memories | None = None,
    ) -> torch.Tensor:
        """`x` `[batch, inputs, frames]` at `time` `[batch]` -> velocity `[batch, mel bins, frames]`.

        `mask` float `[batch, 1, frames]`, 0 behind the end of a row; none outside of it. `blocks = False`: attention
        of a causal estimator sees all frames. `memories`: `x` is the next block of a stream (causal only), or one of
        its pieces, whose frames all see each other.
        """
        time = self.time_mlp(time)
        frames = self._frames(x, mask, blocks) if memories is None else None
        levels, kept = [frames], list[torch.Tensor]()
        for level in _levels(self.down_blocks):
            x = level(x, time, levels[-1], memories)
            kept.append(x)
            x = level.tail(_masked(x, levels[-1]), memories)
            levels.append(frames := frames.halved() if frames and isinstance(level[2], Halve) else frames)
        for level in _levels(self.mid_blocks):
            x = level(x, time, levels[-1], memories)
        for level in _levels(self.up_blocks):
            levels.pop()
            skipped = kept.pop()
            x = level(torch.cat([x[:, :, : skipped.shape[2]], skipped], dim=1), time, levels[-1], memories)
            x = level.tail(_masked(x, levels[-1]), memories)
        x = _masked(self.final_block(x, _mask(x, levels[0]), memories), levels[0])
        return _masked(self.final_proj(x), levels[0])

    def _frames(self, x: torch.Tensor, mask: torch.Tensor | None, blocks: bool) -> Frames:
        return Frames(x.new_ones(len(x), 1, x.shape[2]) if mask is None else mask, self.shape, blocks)


def _mask(x: torch.Tensor, frames: Frames | None) -> torch.Tensor:
    return x.new_ones(1, 1, 1) if frames is None else frames.mask


def _masked(x: torch.Tensor, frames: Frames | None) -> torch.Tensor:
    return x if frames is None else x * frames.mask
