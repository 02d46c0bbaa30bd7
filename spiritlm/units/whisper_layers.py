"""Whisper's transformer layers, with the names of its published weights, and with a memory of earlier blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from spiritlm.run.memory import Memory, after


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None, memory: Memory | None = None
    ) -> torch.Tensor:
        """`x` `[batch, time, width]` looks at `context` `[batch, other, width]` and at `memory`, where `mask`, bool and
        broadcast to `[batch, heads, time, other]`, is true."""
        q, k, v = (
            linear(of).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, of in ((self.q_proj, x), (self.k_proj, context), (self.v_proj, context))
        )
        if memory is not None:
            k, v = memory.extend(k, v)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, ffn: int, convolution: int = 0) -> None:
        """`convolution`: frames of a convolution over time, channel by channel, before the attention; 0: none."""
        super().__init__()
        self.convolution = nn.Conv1d(width, width, convolution, groups=width) if convolution else None
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, memory: Memory | None = None) -> torch.Tensor:
        """`x` `[batch, time, width]`; `mask`, `memory`: see `Attention`."""
        if self.convolution is not None:
            heard = after(x.transpose(1, 2), self.convolution.kernel_size[0] - 1, memory)
            x = x + self.convolution(heard).transpose(1, 2)
        h = self.self_attn_layer_norm(x)
        x = x + self.self_attn(h, h, mask, memory)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class DecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, heard: torch.Tensor, heard_mask: torch.Tensor) -> torch.Tensor:
        """`x` `[batch, time, width]` looks back at itself and at `heard` `[batch, other, width]`, where `heard_mask`,
        bool `[batch, 1, 1, other]`, is true."""
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        h = self.self_attn_layer_norm(x)
        x = x + self.self_attn(h, h, causal)
        x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), heard, heard_mask)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Decoder(nn.Module):
    """Whisper's text decoder: ids that were said so far, and what was heard -> logits of the next id."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, ffn: int, positions: int) -> None:
        """`positions`: longest text, ids."""
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.embed_positions = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, ffn) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        nn.init.normal_(self.embed_positions.weight, std=0.02)

    def forward(self, ids: torch.Tensor, heard: torch.Tensor, heard_mask: torch.Tensor) -> torch.Tensor:
        """`ids` int64 `[batch, time]`, `heard` `[batch, other, width]`, bool `[batch, other]` -> logits
        `[batch, time, vocabulary]`; the output matrix is that of the embeddings."""
        x = self.embed_tokens(ids) + self.embed_positions.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, heard, heard_mask[:, None, None])
        return F.linear(self.layer_norm(x), self.embed_tokens.weight)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Whisper's fixed positions, float32 `[length, width]`: sines, then cosines, of wavelengths 2 pi to 20,000 pi."""
    rates = torch.exp(-torch.arange(width // 2) * (torch.log(torch.tensor(10_000.0)) / (width // 2 - 1)))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
