"""The language model: a decoder of the Llama family as megatron-core `GPTModel`s, one for each run of layers that a
rank holds."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from spiritlm.config import Recipe
from spiritlm.engine.backend import device
from spiritlm.engine.parallel import ParallelConfig, require_divisor
from spiritlm.engine.weights import mark_shared
from spiritlm.errors import InputError

BUCKET_SIZE: int | None = None
"""Least number of parameters that data-parallel ranks exchange at a time; None leaves it to megatron-core."""
Precision = Literal["fp32", "bf16"]
"""`bf16`: weights and activations in bfloat16; main weights, gradients sums and Adam's moments in float32."""


class ModelConfig(Recipe):
    """Shape of the model. The defaults are Llama's; Qwen2 has `qkv_bias`, Qwen3 `qk_norm`, and GLM-4 `qkv_bias` and a
    rotation of half of each head's channels, in pairs of neighbours."""

    hidden_size: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    """Heads of keys and values; fewer than `heads` is grouped-query attention."""
    head_size: NonNegativeInt = 0
    """Channels of a head; 0 stands for `hidden_size / heads`."""
    ffn_hidden_size: PositiveInt
    qkv_bias: bool = False
    """Whether queries, keys and values have a bias."""
    qk_norm: bool = False
    """Whether the queries and keys of every head are normalised."""
    rotary_share: float = Field(default=1.0, gt=0, le=1)
    """Share of a head's channels that the position turns."""
    rotary_neighbours: bool = False
    """Whether channels 2i and 2i + 1 turn together; else channels i and i + half."""
    max_position_embeddings: PositiveInt = 2048
    """Longest row the model is meant for, tokens."""
    rope_theta: float = 10000.0
    rope_scaling: float = Field(default=1.0, ge=1)
    """Factor of Llama 3.1's way to stretch the positions; 1 leaves them as they are."""
    norm_eps: float = 1e-5
    tie_embeddings: bool = False
    """Whether input and output embedding are one matrix."""
    init_std: float = 0.02

    @model_validator(mode="before")
    @classmethod
    def _derive_head_size(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and not fields.get("head_size"):
            with suppress(KeyError, TypeError, ZeroDivisionError):  # reported field by field
                return {**fields, "head_size": fields["hidden_size"] // fields["heads"]}
        return fields

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.head_size % 2:
            raise InputError(
                f"model.heads = {self.heads}: expected to divide hidden_size = {self.hidden_size} into even parts"
            )
        if self.heads % self.kv_heads:
            raise InputError(f"model.kv_heads = {self.kv_heads}: expected a divisor of heads = {self.heads}")
        return self


def require_shared(config: ModelConfig, parallel: ParallelConfig, vocabulary_size: int) -> None:
    """Raises `InputError` where ranks cannot share the model in equal parts.

    `vocabulary_size`: rows of the embedding, padding included.
    """
    tensor, stages = parallel.tensor, parallel.pipeline * parallel.virtual_stages
    heads = (config.kv_heads, "model.kv_heads")
    if tensor > config.kv_heads and tensor % config.kv_heads == 0:  # then ranks share the keys of a group
        heads = (config.heads, "model.heads")
    for number, name, by, field_name in (
        (*heads, tensor, "parallel.tensor"),
        (config.ffn_hidden_size, "model.ffn_hidden_size", tensor, "parallel.tensor"),
        (vocabulary_size, "the vocabulary", tensor, "parallel.tensor"),
        (config.layers, "model.layers", stages, "parallel.pipeline x parallel.virtual_stages"),
    ):
        require_divisor(number, name, by, field_name)


def transformer_config(config: ModelConfig, precision: Precision, parallel: ParallelConfig) -> Any:
    """megatron-core's `TransformerConfig` of `config`. Loss is summed over tokens and divided by their global count."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    staged = parallel.virtual_stages > 1
    recompute = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
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
        add_qkv_bias=config.qkv_bias,
        qk_layernorm=config.qk_norm,
        rotary_interleaved=config.rotary_neighbours,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        perform_initialization=False,
        tensor_model_parallel_size=parallel.tensor,
        sequence_parallel=parallel.sequence and parallel.tensor > 1,
        pipeline_model_parallel_size=parallel.pipeline,
        virtual_pipeline_model_parallel_size=parallel.virtual_stages if staged else None,
        overlap_p2p_comm=staged,  # the other setting trains the interleaved schedule wrongly, without a word
        batch_p2p_comm=not staged,
        context_parallel_size=parallel.context,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=precision == "bf16",
        calculate_per_token_loss=True,
        use_cpu_initialization=not torch.cuda.is_available(),
        gradient_accumulation_fusion=False,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        **(recompute if parallel.recompute == "layers" else {}),
    )


def build_chunks(
    config: ModelConfig, vocabulary_size: int, precision: Precision, parallel: ParallelConfig | None = None
) -> list[Any]:
    """This rank's `GPTModel`s, one for each of its virtual stages, on its device, weights not yet set.

    `vocabulary_size`: rows of the embedding, padding included.
    """
    from megatron.core import parallel_state
    from megatron.core.transformer.transformer_block import get_num_layers_to_build

    from spiritlm.engine.language_model import LanguageModel
    from spiritlm.engine.layers import block_spec

    parallel = parallel or ParallelConfig()
    settings = transformer_config(config, precision, parallel)
    stages = range(parallel.virtual_stages) if parallel.virtual_stages > 1 else [None]
    chunks = []
    for stage in stages:
        layers = get_num_layers_to_build(settings, vp_stage=stage)
        chunk = LanguageModel(
            config=settings,
            transformer_layer_spec=block_spec(layers, config.qk_norm, parallel.transformer_engine),
            vocab_size=vocabulary_size,
            max_sequence_length=config.max_position_embeddings,
            pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=stage),
            post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=stage),
            share_embeddings_and_output_weights=config.tie_embeddings,
            position_embedding_type="rope",
            rotary_percent=config.rotary_share,
            rotary_base=config.rope_theta,
            rope_scaling=config.rope_scaling > 1,
            rope_scaling_factor=config.rope_scaling,
            vp_stage=stage,
        )
        mark_shared(chunk)
        chunks.append(chunk.to(device()))
    return chunks


def wrap_data_parallel(chunks: list[Any], overlap: bool = False) -> list[Any]:
    """The model as it is trained: float16 module where the precision asks for it, gradients summed in float32
    over the data-parallel ranks, optimizer state sharded among them.

    `overlap`: gradients are exchanged during the backward pass, updated weights during the next forward pass.
    """
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
        finalize_model_grads,
    )
    from megatron.core.transformer.module import Float16Module

    config = chunks[0].config
    layout = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True, use_distributed_optimizer=True,
        overlap_grad_reduce=overlap, overlap_param_gather=overlap, bucket_size=BUCKET_SIZE,
    )  # fmt: skip
    wrapped = [
        DistributedDataParallel(
            config=config,
            ddp_config=layout,
            module=Float16Module(config, chunk) if config.bf16 else chunk,
            disable_bucketing=number > 0,
        )
        for number, chunk in enumerate(chunks)
    ]
    config.finalize_model_grads_func = finalize_model_grads
    if overlap:
        config.no_sync_func = [chunk.no_sync for chunk in wrapped] if len(wrapped) > 1 else wrapped[0].no_sync
    return wrapped
