"""The weights between megatron-core and Hugging Face, which hold the same numbers in another order.

megatron-core keeps query, key and value of a group of heads in one matrix, and gate and up projection in another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from spiritlm.engine.hf_config import huggingface_config
from spiritlm.engine.model import ModelConfig
from spiritlm.engine.weights import Read, grown_rows
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path, read_json, write_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig

State = dict[str, torch.Tensor]

INDEX_FILE, WEIGHTS_FILE = "model.safetensors.index.json", "model.safetensors"
SHARD_BYTES = 5 * 10**9
"""Size of a file of an export, about."""


@dataclass(frozen=True)
class _Rule:
    """A weight of ours, the weights of theirs that hold its numbers, and the way between them."""

    ours: str
    theirs: tuple[str, ...]
    join: Callable[[list[torch.Tensor]], torch.Tensor] = lambda parts: parts[0]
    split: Callable[[torch.Tensor], list[torch.Tensor]] = lambda whole: [whole]


def _rules(config: ModelConfig) -> list[_Rule]:
    """Of every weight of the model; a tied output embedding has none."""
    rules = [
        _Rule("embedding.word_embeddings.weight", ("model.embed_tokens.weight",)),
        _Rule("decoder.final_layernorm.weight", ("model.norm.weight",)),
    ]
    if not config.tie_embeddings:
        rules.append(_Rule("output_layer.weight", ("lm_head.weight",)))
    for layer in range(config.layers):
        for rule in _layer_rules(config):
            theirs = tuple(f"model.layers.{layer}.{name}" for name in rule.theirs)
            rules.append(_Rule(f"decoder.layers.{layer}.{rule.ours}", theirs, rule.join, rule.split))
    return rules


def _layer_rules(config: ModelConfig) -> list[_Rule]:
    def join_heads(parts: list[torch.Tensor]) -> torch.Tensor:
        """Query, key, value `[heads * channels, ...]` to `[groups * (heads a group + 2) * channels, ...]`."""
        return torch.cat([part.unflatten(0, (config.kv_heads, -1)) for part in parts], dim=1).flatten(0, 1)

    def split_heads(fused: torch.Tensor) -> list[torch.Tensor]:
        size, queries = config.head_size, config.heads // config.kv_heads
        grouped = fused.unflatten(0, (config.kv_heads, (queries + 2) * size))
        return [part.flatten(0, 1) for part in grouped.split([queries * size, size, size], dim=1)]

    def heads(kind: str) -> _Rule:
        theirs = tuple(f"self_attn.{name}_proj.{kind}" for name in "qkv")
        return _Rule(f"self_attention.linear_qkv.{kind}", theirs, join_heads, split_heads)

    rules = [
        _Rule("input_layernorm.weight", ("input_layernorm.weight",)),
        heads("weight"),
        _Rule("self_attention.linear_proj.weight", ("self_attn.o_proj.weight",)),
        _Rule("pre_mlp_layernorm.weight", ("post_attention_layernorm.weight",)),
        _Rule("mlp.linear_fc2.weight", ("mlp.down_proj.weight",)),
    ]
    if config.rotary_neighbours:  # GLM keeps gate and up projection in one matrix too
        rules.append(_Rule("mlp.linear_fc1.weight", ("mlp.gate_up_proj.weight",)))
    else:
        gate_up = ("mlp.gate_proj.weight", "mlp.up_proj.weight")
        rules.append(_Rule("mlp.linear_fc1.weight", gate_up, torch.cat, lambda whole: list(whole.chunk(2))))
    if config.qkv_bias:
        rules.append(heads("bias"))
    if config.qk_norm:
        rules += [_Rule(f"self_attention.{x}_layernorm.weight", (f"self_attn.{x}_norm.weight",)) for x in "qk"]
    return rules


def to_huggingface(state: State, config: ModelConfig) -> State:
    """Hugging Face's state from the state of an undivided `GPTModel`."""
    found: State = {}
    for rule in _rules(config):
        found |= zip(rule.theirs, rule.split(state[rule.ours]), strict=True)
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


class HuggingFaceWeights:
    """The weights of a folder of safetensors, read one by one."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        """Raises `InputError` where the folder lacks weights of the shape `config`, or has them in another format."""
        self.folder = folder
        self._rules = {rule.ours: rule for rule in _rules(config)}
        if (folder / INDEX_FILE).is_file():
            self._files = read_json(folder / INDEX_FILE)["weight_map"]
        elif (folder / WEIGHTS_FILE).is_file():
            with self._open(WEIGHTS_FILE) as file:
                self._files = dict.fromkeys(file.keys(), WEIGHTS_FILE)
        else:
            raise InputError(f"{folder}: expected {WEIGHTS_FILE} or {INDEX_FILE}, found neither")
        if lacking := [name for rule in self._rules.values() for name in rule.theirs if name not in self._files]:
            raise InputError(f"{folder}: no weight {lacking[0]!r} ({len(lacking)} are missing)")

    def __call__(self, name: str) -> torch.Tensor:
        """A weight of ours, undivided."""
        rule = self._rules[name]
        return rule.join([self._read(theirs) for theirs in rule.theirs])

    def _read(self, name: str) -> torch.Tensor:
        with self._open(self._files[name]) as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor

    def require_shape(self, config: ModelConfig, text_size: int) -> None:
        """Raises `InputError` unless the embedding is as wide as the model and has rows for the text's ids."""
        name = self._rules["embedding.word_embeddings.weight"].theirs[0]
        with self._open(self._files[name]) as file:
            rows, width = file.get_slice(name).get_shape()
        if width != config.hidden_size:
            raise InputError(f"{self.folder}: hidden size {width}, expected model.hidden_size = {config.hidden_size}")
        if rows < text_size:
            raise InputError(f"{self.folder}: {rows} ids, expected the {text_size} of the stores' text tokenizer")

    def _open(self, name: str) -> Any:
        try:
            return safe_open(self.folder / name, framework="pt")
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.folder / name}: {error}") from None


def grown_weights(weights: Callable[[str], torch.Tensor], text_size: int, seed: int) -> Read:
    """The weights of a text model for a larger vocabulary, whose ids `[0, text_size)` are the model's own.

    The new rows of the embeddings are drawn as `grown_rows` tells.
    """

    def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        whole = weights(name)
        if name.startswith(("embedding.", "output_layer.")):
            whole = grown_rows(whole[:text_size], shape[0], seed, name)
        if whole.shape != shape:
            raise InputError(f"{name} is {list(whole.shape)}, expected {list(shape)}")
        return whole

    return read


def grown_model(folder: Path, config: ModelConfig, text_size: int, seed: int) -> Read:
    """The model in `folder`, grown. Raises `InputError` where it does not fit the shape or has too few ids."""
    weights = HuggingFaceWeights(folder, config)
    weights.require_shape(config, text_size)
    return grown_weights(weights, text_size, seed)


def export(
    state: State, config: ModelConfig, folder: Path, bos: int, eos: int, dtype: torch.dtype = torch.float32
) -> PretrainedConfig:
    """Write `config.json`, `generation_config.json` and the safetensors of the state of an undivided `GPTModel`.

    transformers, vLLM and others load the folder without code of ours.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from transformers import GenerationConfig

    theirs = {name: tensor.to(dtype) for name, tensor in to_huggingface(state, config).items()}
    rows = theirs["model.embed_tokens.weight"].shape[0]
    shape = huggingface_config(config, rows, bos, eos, str(dtype).removeprefix("torch."))
    folder.mkdir(parents=True, exist_ok=True)
    shards = split_torch_state_dict_into_shards(theirs, max_shard_size=SHARD_BYTES)
    for name, tensors in shards.filename_to_tensors.items():
        with atomic_path(folder / name) as temporary:
            save_file({tensor: theirs[tensor] for tensor in tensors}, temporary, metadata={"format": "pt"})
    if shards.is_sharded:
        write_json(folder / INDEX_FILE, {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename})
    shape.save_pretrained(folder)
    GenerationConfig(bos_token_id=bos, eos_token_id=eos, pad_token_id=eos).save_pretrained(folder)
    return shape
