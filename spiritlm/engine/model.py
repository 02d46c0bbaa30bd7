"""The language model: a Llama-shaped megatron-core `GPTModel`."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt, model_validator

from spiritlm.config import Recipe
from spiritlm.engine.backend import device
from spiritlm.errors import InputError

Precision = Literal["fp32", "bf16"]
"""`bf16`: weights and activations in bfloat16; main weights, gradients sums and Adam's moments in float32."""


class ModelConfig(Recipe):
    """Shape of the model."""

    hidden_size: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    """Heads of keys and values; fewer than `heads` is grouped-query attention."""
    ffn_hidden_size: PositiveInt
    max_position_embeddings: PositiveInt = 2048
    """Longest row the model is meant for, tokens."""
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = False
    """Whether input and output embedding are one matrix."""
    init_std: float = 0.02

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 2:
            raise InputError(
                f"model.heads = {self.heads}: expected to divide hidden_size = {self.hidden_size} into even parts"
            )
        if self.heads % self.kv_heads:
            raise InputError(f"model.kv_heads = {self.kv_heads}: expected a divisor of heads = {self.heads}")
        return self

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads


def transformer_config(config: ModelConfig, precision: Precision) -> Any:
    """megatron-core's `TransformerConfig` of `config`. Loss is summed over tokens and divided by their global count."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return TransformerConfig(
        num_layers=config.layers,
        hidden_size=config.hidden_size,
        num_attention_heads=config.heads,
        num_query_groups=config.kv_heads,
        kv_channels=config.head_size,
        ffn_hidden_size=config.ffn_hidden_size,
        normalization="RMSNorm",
        layernorm_epsilon=config.norm_eps,
        gated_linear_unit=True,
        activation_func=F.silu,
        add_bias_linear=False,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        init_method_std=config.init_std,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=precision == "bf16",
        calculate_per_token_loss=True,
        use_cpu_initialization=True,
        gradient_accumulation_fusion=False,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
    )


def build_model(config: ModelConfig, vocabulary_size: int, precision: Precision) -> Any:
    """A `GPTModel` on this process's device, initialised from torch's current random state.

    `vocabulary_size`: rows of the embedding, padding included.
    """
    from megatron.core.models.gpt import GPTModel

    from spiritlm.engine.layers import block_spec

    return GPTModel(
        config=transformer_config(config, precision),
        transformer_layer_spec=block_spec(config.layers),
        vocab_size=vocabulary_size,
        max_sequence_length=config.max_position_embeddings,
        share_embeddings_and_output_weights=config.tie_embeddings,
        position_embedding_type="rope",
        rotary_base=config.rope_theta,
    ).to(device())


def wrap_data_parallel(model: Any) -> Any:
    """The model as it is trained: float16 module where the precision asks for it, gradients summed in float32
    over the data-parallel ranks, optimizer state sharded among them."""
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
        finalize_model_grads,
    )
    from megatron.core.transformer.module import Float16Module

    config = model.config
    config.finalize_model_grads_func = finalize_model_grads
    wrapped = Float16Module(config, model) if config.bf16 else model
    layout = DistributedDataParallelConfig(grad_reduce_in_fp32=True, use_distributed_optimizer=True)
    return DistributedDataParallel(config=config, ddp_config=layout, module=wrapped)
