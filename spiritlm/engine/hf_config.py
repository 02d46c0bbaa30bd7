"""The shape of the model in Hugging Face's terms: stock Llama, Qwen2, Qwen3 and GLM, no code of ours."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiritlm.engine.model import ModelConfig
from spiritlm.errors import InputError

if TYPE_CHECKING:  # transformers takes a second to import, and a run from drawn weights needs none of it
    from transformers import PretrainedConfig

LLAMA3_ROTATION = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of Llama 3.1 and later; their `factor` differs. megatron-core knows these values and no others."""


@cache
def _families() -> dict[tuple[bool, bool, bool], type[PretrainedConfig]]:
    """By `qkv_bias`, `qk_norm` and `rotary_neighbours`."""
    from transformers import GlmConfig, LlamaConfig, Qwen2Config, Qwen3Config

    return {
        (False, False, False): LlamaConfig,
        (True, False, False): Qwen2Config,
        (False, True, False): Qwen3Config,
        (True, False, True): GlmConfig,
    }


def model_config_of(folder: Path) -> ModelConfig:
    """Shape of the language model in a Hugging Face folder.

    Raises `InputError` for another architecture, and for what megatron-core cannot compute: scaled rotary positions
    other than Llama 3's, sliding windows and biases of the projections.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: does not exist, expected the folder of a Hugging Face model")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: expected the folder of a Hugging Face model, but it has no config.json")
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no Hugging Face model: {str(error).splitlines()[0]}") from None
    families = {family: properties for properties, family in _families().items()}
    if type(found) not in families:
        known = ", ".join(sorted(config.model_type for config in families))
        raise InputError(f"{folder}: model_type {found.model_type!r}, expected one of {known}")
    if getattr(found, "use_sliding_window", False) or getattr(found, "mlp_bias", False):
        raise InputError(f"{folder}: a sliding window or biases in the feed-forward layers are not supported")
    qkv_bias, qk_norm, neighbours = families[type(found)]
    if not neighbours and getattr(found, "attention_bias", False):
        raise InputError(f"{folder}: a bias in the attention's output is not supported")
    rotation = dict(found.rope_parameters)
    return ModelConfig(
        hidden_size=found.hidden_size,
        layers=found.num_hidden_layers,
        heads=found.num_attention_heads,
        kv_heads=found.num_key_value_heads,
        head_size=getattr(found, "head_dim", None) or found.hidden_size // found.num_attention_heads,
        ffn_hidden_size=found.intermediate_size,
        qkv_bias=qkv_bias,
        qk_norm=qk_norm,
        rotary_share=rotation.get("partial_rotary_factor", 1.0),
        rotary_neighbours=neighbours,
        max_position_embeddings=found.max_position_embeddings,
        rope_theta=rotation["rope_theta"],
        rope_scaling=_rope_scaling(rotation, folder),
        norm_eps=found.rms_norm_eps,
        tie_embeddings=found.tie_word_embeddings,
        init_std=found.initializer_range,
    )


def _rope_scaling(rotation: dict[str, Any], folder: Path) -> float:
    kind = rotation.get("rope_type", "default")
    if kind == "default":
        return 1.0
    if kind == "llama3" and all(rotation.get(name) == value for name, value in LLAMA3_ROTATION.items()):
        return float(rotation["factor"])
    raise InputError(f"{folder}: rotary positions of type {kind!r} {rotation}, expected default ones or Llama 3's")


def huggingface_config(
    config: ModelConfig, vocabulary_size: int, bos: int, eos: int, dtype: str = "float32"
) -> PretrainedConfig:
    """`vocabulary_size`: rows of the embedding, padding included; `bos`, `eos`: their ids.

    Raises `InputError` for a shape that no stock class of transformers has.
    """
    family = _families().get((config.qkv_bias, config.qk_norm, config.rotary_neighbours))
    if family is None or (config.rotary_share != 1 and not config.rotary_neighbours):
        raise InputError(
            f"model: qkv_bias = {config.qkv_bias}, qk_norm = {config.qk_norm}, rotary_neighbours = "
            f"{config.rotary_neighbours}, rotary_share = {config.rotary_share}: expected those of Llama, Qwen2, Qwen3 "
            "or GLM-4"
        )
    rotation: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling != 1:
        rotation |= {"rope_type": "llama3", "factor": config.rope_scaling, **LLAMA3_ROTATION}
    if config.rotary_neighbours:
        rotation["partial_rotary_factor"] = config.rotary_share
    return family(
        architectures=[family.__name__.replace("Config", "ForCausalLM")],
        dtype=dtype,
        vocab_size=vocabulary_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_size,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters=rotation,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tie_embeddings,
        initializer_range=config.init_std,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
        **({"attention_bias": True} if config.rotary_neighbours else {}),
    )
