"""Layers of a Llama-shaped model in plain torch, so that Transformer Engine is not needed; its matrices can be had.

megatron-core's own local layers refuse sequence parallelism in RMSNorm, and their core attention knows no documents
and writes the whole score matrix.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig

from spiritlm.engine.attention import DocumentAttention
from spiritlm.engine.cpu_kernels import RMSNormFunction


class RMSNorm(torch.nn.RMSNorm):
    """RMSNorm whose weight gradient megatron-core sums over the ranks that share a sequence."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **unused: Any) -> None:
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., hidden]` to the same."""
        return super().forward(x) if x.is_cuda else RMSNormFunction.apply(x, self.weight, self.eps)


def layer_spec(qk_norm: bool, transformer_engine: bool) -> ModuleSpec:
    spec = get_gpt_layer_local_spec(normalization="RMSNorm", qk_layernorm=qk_norm)
    spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = RMSNorm
    attention = spec.submodules.self_attention.submodules
    attention.core_attention = DocumentAttention
    if qk_norm:
        attention.q_layernorm = attention.k_layernorm = RMSNorm
    if transformer_engine:  # its layers without fused norms hold the same weights under the same names
        from megatron.core.extensions.transformer_engine import TEColumnParallelLinear, TERowParallelLinear

        matrices = spec.submodules.mlp.submodules
        attention.linear_qkv = matrices.linear_fc1 = TEColumnParallelLinear
        attention.linear_proj = matrices.linear_fc2 = TERowParallelLinear
    return spec


def block_spec(layers: int, qk_norm: bool, transformer_engine: bool = False) -> TransformerBlockSubmodules:
    """`layers`: how many this pipeline stage builds; `qk_norm`: whether queries and keys are normalised by head;
    `transformer_engine`: whether its linear layers are used."""
    return TransformerBlockSubmodules([layer_spec(qk_norm, transformer_engine)] * layers, RMSNorm)
