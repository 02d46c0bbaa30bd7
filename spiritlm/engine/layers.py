"""Layers of a Llama-shaped model in plain torch, so that Transformer Engine is not needed.

megatron-core's own local layers refuse sequence parallelism in RMSNorm, and their core attention writes the whole
score matrix: on long rows that is several times slower than torch's scaled dot product attention.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig

from spiritlm.engine.cpu_kernels import RMSNormFunction


class RMSNorm(torch.nn.RMSNorm):
    """RMSNorm whose weight gradient megatron-core sums over the ranks that share a sequence."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **unused: Any) -> None:
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., hidden]` to the same."""
        return super().forward(x) if x.is_cuda else RMSNormFunction.apply(x, self.weight, self.eps)


class CausalAttention(torch.nn.Module):
    """Core attention: causal over the whole row, grouped queries allowed."""

    def __init__(self, config: TransformerConfig, softmax_scale: float | None = None, **unused: Any) -> None:
        super().__init__()
        self.scale = softmax_scale

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: None, **unused: Any
    ) -> torch.Tensor:
        """`query` `[time, batch, heads, channels]`, `key` and `value` `[time, batch, groups, channels]`.

        Returns `[time, batch, heads * channels]`.
        """
        query, key, value = (x.permute(1, 2, 0, 3) for x in (query, key, value))  # [batch, heads, time, channels]
        grouped = query.shape[1] != key.shape[1]
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=self.scale, enable_gqa=grouped)
        return mixed.permute(2, 0, 1, 3).flatten(2)

    def sharded_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """No state: what megatron-core's checkpoints ask of a core attention."""
        return {}


def layer_spec() -> ModuleSpec:
    spec = get_gpt_layer_local_spec(normalization="RMSNorm")
    spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = RMSNorm
    spec.submodules.self_attention.submodules.core_attention = CausalAttention
    return spec


def block_spec(layers: int) -> TransformerBlockSubmodules:
    """`layers`: how many this pipeline stage builds."""
    return TransformerBlockSubmodules(layer_specs=[layer_spec()] * layers, layer_norm=RMSNorm)
