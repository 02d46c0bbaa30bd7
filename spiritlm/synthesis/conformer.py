"""What reads units for the flow: a transformer with relative positions, whose attention goes by blocks.

Units' embeddings come in, as many vectors go out (times `up_stride`). A position attends to its own block and to the
blocks before it, at most `left_blocks` of them, so that a block is final once it is complete; with `block = None` to
everything. Relative positions (Transformer-XL) make a block's result independent of where it stands, which is what
lets a stream keep only the keys of its left context. Layouts and state names are those of CosyVoice (`encoder.*` of
`flow.pt`); GLM-4-Voice's encoder is the one without look-ahead and up-sampling.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import nn

from spiritlm.config import Recipe
from spiritlm.run.memory import Memories, Memory, after, block_mask, memory_of, none_blind


class EncoderShape(Recipe):
    """Size and kind of the encoder."""

    width: PositiveInt = 512
    heads: PositiveInt = 8
    feed_forward: PositiveInt = 2048
    layers: PositiveInt = 6
    block: PositiveInt | None = 10
    """Units of a block."""
    left_blocks: PositiveInt | None = None
    """Blocks before its own that a position attends to; all of them by default."""
    look_ahead: NonNegativeInt = 0
    """Units after its own that a position hears, through a convolution in front of the layers."""
    up_layers: NonNegativeInt = 0
    """Layers after the up-sampling; without any there is none."""
    up_stride: PositiveInt = 1
    norm_eps: float = 1e-5
    """Of the norms in the layers (GLM-4-Voice 1e-5, CosyVoice 1e-12)."""
    dropout: float = 0.1
    published_padding: bool = False
    """As published, what stands behind the end of a shorter row in a batch is not silent: its last units hear it where
    the encoder looks ahead, and interpolation reads from it."""

    @model_validator(mode="after")
    def _fits_together(self) -> EncoderShape:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width = {self.width}: expected an even multiple of heads = {self.heads}")
        if (self.up_stride > 1) != (self.up_layers > 0):
            raise ValueError("up_stride and up_layers: expected both or neither")
        return self


def relative_positions(first: int, last: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Sines and cosines, interleaved, of the distances `first`, ..., `last` (falling): float `[distances, width]`."""
    distances = torch.arange(first, last - 1, -1, device=like.device, dtype=torch.float32)
    rates = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=torch.float32) * -(math.log(10000.0) / width))
    angles = distances[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


class RelativeAttention(nn.Module):
    """Multi-head attention whose logits know how far apart query and key are."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.linear_q, self.linear_k = nn.Linear(width, width), nn.Linear(width, width)
        self.linear_v, self.linear_out = nn.Linear(width, width), nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, past: Memory | None) -> torch.Tensor:
        """`x` `[batch, queries, width]`; `mask` bool, broadcast to `[batch, 1, queries, keys]`, true where a key is
        seen; keys are those of `past`, then those of `x`."""
        batch, queries, width = x.shape
        q, k, v = (self._split(linear(x)) for linear in (self.linear_q, self.linear_k, self.linear_v))
        if past is not None:
            k, v = past.extend(k, v)
        keys = k.shape[2]
        table = relative_positions(keys - 1, 1 - queries, width, x)  # query i (of the last ones), key j: i - j
        distances = self.linear_pos(table).view(len(table), self.heads, -1).transpose(0, 1)  # [heads, distances, head]
        by_distance = (q + self.pos_bias_v[:, None]) @ distances.transpose(1, 2)  # [batch, heads, queries, distances]
        scale = 1 / math.sqrt(width // self.heads)
        bias = _by_key(by_distance, keys) * scale
        if mask is not None:
            bias = bias.masked_fill(~mask, -torch.inf)
        attended = F.scaled_dot_product_attention(
            q + self.pos_bias_u[:, None], k, v, bias, dropout_p=self.dropout if self.training else 0.0, scale=scale
        )
        return self.linear_out(attended.transpose(1, 2).reshape(batch, queries, width))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [batch, heads, time, head]


def _by_key(by_distance: torch.Tensor, keys: int) -> torch.Tensor:
    """`[batch, heads, queries, distances]`, falling from that of the last query to the first key, ->
    `[batch, heads, queries, keys]`."""
    batch, heads, queries, _ = by_distance.shape
    device = by_distance.device
    place = torch.arange(queries - 1, -1, -1, device=device)[:, None] + torch.arange(keys, device=device)
    return by_distance.gather(-1, place.expand(batch, heads, queries, keys))


class ConformerLayer(nn.Module):
    """Attention, then a feed-forward network, each after its norm and added."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.self_attn = RelativeAttention(shape.width, shape.heads, shape.dropout)
        self.feed_forward = FeedForward(shape.width, shape.feed_forward, shape.dropout)
        self.norm_ff = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.norm_mha = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, memories: Memories | None = None) -> torch.Tensor:
        """`x` `[batch, time, width]`; `mask`: see `RelativeAttention`."""
        x = x + self.dropout(self.self_attn(self.norm_mha(x), mask, memory_of(self.self_attn, memories)))
        return x + self.dropout(self.feed_forward(self.norm_ff(x)))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.w_1, self.w_2, self.dropout = nn.Linear(width, hidden), nn.Linear(hidden, width), nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w_2(self.dropout(F.silu(self.w_1(x))))


class Embed(nn.Module):
    """A linear layer and a norm, then the scale that positions of this kind want."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width, eps=1e-5), nn.Dropout(dropout))
        self.scale = math.sqrt(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x) * self.scale


class LookAhead(nn.Module):
    """Adds what a convolution over `look_ahead` later units, and a causal one behind it, hear."""

    def __init__(self, width: int, look_ahead: int) -> None:
        super().__init__()
        self.look_ahead = look_ahead
        self.conv1 = nn.Conv1d(width, width, look_ahead + 1)
        self.conv2 = nn.Conv1d(width, width, 3)

    def forward(self, x: torch.Tensor, later: torch.Tensor | None, memories: Memories | None) -> torch.Tensor:
        """`x` and the vectors after it, at most `look_ahead`, zeros for those missing: `[batch, time, width]`."""
        h = x.transpose(1, 2) if later is None else torch.cat([x, later], dim=1).transpose(1, 2)
        h = F.leaky_relu(self.conv1(F.pad(h, (0, x.shape[1] + self.look_ahead - h.shape[2]))))
        return x + self.conv2(after(h, 2, memory_of(self, memories))).transpose(1, 2)


class UpSample(nn.Module):
    """Each vector `stride` times, then a causal convolution."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(width, width, 2 * stride + 1)

    def forward(self, x: torch.Tensor, memories: Memories | None) -> torch.Tensor:
        h = x.transpose(1, 2).repeat_interleave(self.stride, dim=2)
        return self.conv(after(h, 2 * self.stride, memory_of(self, memories))).transpose(1, 2)


class UnitEncoder(nn.Module):
    """See the module's docstring. State: the names below `encoder.` of the published `flow.pt`."""

    def __init__(self, inputs: int, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = Embed(inputs, shape.width, shape.dropout)
        if shape.look_ahead:
            self.pre_lookahead_layer = LookAhead(shape.width, shape.look_ahead)
        self.encoders = nn.ModuleList(ConformerLayer(shape) for _ in range(shape.layers))
        if shape.up_layers:
            self.up_layer = UpSample(shape.width, shape.up_stride)
            self.up_embed = Embed(shape.width, shape.width, shape.dropout)
            self.up_encoders = nn.ModuleList(ConformerLayer(shape) for _ in range(shape.up_layers))
        self.after_norm = nn.LayerNorm(shape.width, eps=1e-5)

    def memories(self) -> Memories:
        """Of a stream that is about to begin."""
        shape = self.shape
        most = None if shape.left_blocks is None or shape.block is None else shape.left_blocks * shape.block
        found = Memories(most)
        if shape.up_layers and most is not None:
            for layer in self.up_encoders:
                assert isinstance(layer, ConformerLayer)
                found[layer.self_attn] = Memory(most * shape.up_stride)
        return found

    def forward(
        self,
        x: torch.Tensor,
        lengths: torch.Tensor | None = None,
        blocks: bool = True,
        later: torch.Tensor | None = None,
        memories: Memories | None = None,
    ) -> torch.Tensor:
        """Embedded units `[batch, units, inputs]`, of which `lengths` int `[batch]` are true (all by default) ->
        `[batch, units * up_stride, width]`.

        `blocks = False`: every position attends to all. `later`: embedded units after these, at most `look_ahead`,
        where they are known already. `memories`: `x` is the next block of a stream, or its last piece.
        """
        shape, x = self.shape, self.embed(x)
        if lengths is not None and not shape.published_padding:
            x = x * (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
        if shape.look_ahead:
            x = self.pre_lookahead_layer(x, None if later is None else self.embed(later), memories)
        mask = None if memories is not None else self._mask(x.shape[1], 1, lengths, blocks)
        for layer in self.encoders:
            x = layer(x, mask, memories)
        if shape.up_layers:
            x = self.up_embed(self.up_layer(x, memories))
            mask = None if memories is not None else self._mask(x.shape[1], shape.up_stride, lengths, blocks)
            for layer in self.up_encoders:
                x = layer(x, mask, memories)
        return self.after_norm(x)

    def _mask(self, time: int, stride: int, lengths: torch.Tensor | None, blocks: bool) -> torch.Tensor | None:
        """bool, broadcast to `[batch, 1, time, time]`; None where everything is seen."""
        shape, device = self.shape, self.after_norm.weight.device
        seen = None
        if blocks and shape.block is not None:
            seen = block_mask(time, shape.block * stride, shape.left_blocks, device)
        if lengths is not None:
            valid = (torch.arange(time, device=device) < stride * lengths[:, None])[:, None, None]
            seen = valid if seen is None else none_blind(seen & valid)
        return seen
