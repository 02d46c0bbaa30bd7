"""The weights between megatron-core and Hugging Face's Llama, which hold the same numbers in another order.

megatron-core keeps query, key and value of a group of heads in one matrix, and gate and up projection in another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig

from spiritlm.engine.model import ModelConfig
from spiritlm.run.files import atomic_path

State = dict[str, torch.Tensor]

_TOP = {
    "embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "decoder.final_layernorm.weight": "model.norm.weight",
    "output_layer.weight": "lm_head.weight",
}
_LAYER = {
    "input_layernorm.weight": "input_layernorm.weight",
    "pre_mlp_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.linear_proj.weight": "self_attn.o_proj.weight",
    "mlp.linear_fc2.weight": "mlp.down_proj.weight",
}


def to_huggingface(state: State, config: ModelConfig) -> State:
    """Llama's state from a whole `GPTModel` state; a tied output embedding is left out."""
    found = {theirs: state[ours] for ours, theirs in _TOP.items() if ours in state}
    for layer in range(config.layers):
        ours, theirs = f"decoder.layers.{layer}.", f"model.layers.{layer}."
        found |= {theirs + new: state[ours + old] for old, new in _LAYER.items()}
        fused = state[f"{ours}self_attention.linear_qkv.weight"]
        for name, part in zip("qkv", _split_heads(fused, config), strict=True):
            found[f"{theirs}self_attn.{name}_proj.weight"] = part
        gate, up = state[f"{ours}mlp.linear_fc1.weight"].chunk(2)
        found |= {f"{theirs}mlp.gate_proj.weight": gate, f"{theirs}mlp.up_proj.weight": up}
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


def from_huggingface(state: State, config: ModelConfig) -> State:
    """The inverse of `to_huggingface`."""
    found = {ours: state[theirs] for ours, theirs in _TOP.items() if theirs in state}
    for layer in range(config.layers):
        ours, theirs = f"decoder.layers.{layer}.", f"model.layers.{layer}."
        found |= {ours + old: state[theirs + new] for old, new in _LAYER.items()}
        parts = [state[f"{theirs}self_attn.{name}_proj.weight"] for name in "qkv"]
        found[f"{ours}self_attention.linear_qkv.weight"] = _join_heads(parts, config)
        gate_up = [state[f"{theirs}mlp.{name}_proj.weight"] for name in ("gate", "up")]
        found[f"{ours}mlp.linear_fc1.weight"] = torch.cat(gate_up)
    return found


def _split_heads(fused: torch.Tensor, config: ModelConfig) -> list[torch.Tensor]:
    """`[groups * (heads a group + 2) * channels, hidden]` -> query, key, value `[heads * channels, hidden]`."""
    size, queries = config.head_size, config.heads // config.kv_heads
    grouped = fused.view(config.kv_heads, (queries + 2) * size, -1)
    return [part.flatten(0, 1) for part in grouped.split([queries * size, size, size], dim=1)]


def _join_heads(parts: list[torch.Tensor], config: ModelConfig) -> torch.Tensor:
    grouped = [part.view(config.kv_heads, -1, part.shape[-1]) for part in parts]
    return torch.cat(grouped, dim=1).flatten(0, 1)


def llama_config(config: ModelConfig, vocabulary_size: int, bos: int, eos: int) -> LlamaConfig:
    """`vocabulary_size`: rows of the embedding, padding included; `bos`, `eos`: ids of `<s>` and `</s>`."""
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=vocabulary_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tie_embeddings,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )


def export_llama(model: Any, config: ModelConfig, folder: Path, bos: int, eos: int) -> LlamaConfig:
    """Write `config.json`, `generation_config.json` and `model.safetensors` of a bare, whole `GPTModel`.

    The weights keep their precision. transformers, vLLM and others load the folder without code of ours.
    """
    state = to_huggingface({name: t for name, t in model.state_dict().items() if torch.is_tensor(t)}, config)
    llama = llama_config(config, state["model.embed_tokens.weight"].shape[0], bos, eos)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    llama.save_pretrained(folder)
    GenerationConfig(bos_token_id=bos, eos_token_id=eos, pad_token_id=eos).save_pretrained(folder)
    return llama
