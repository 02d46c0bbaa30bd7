"""Folders of other people's models: GLM-4-Voice's tokenizer, and any Whisper to start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from spiritlm.config import validate_recipe
from spiritlm.errors import InputError
from spiritlm.run.files import read_json
from spiritlm.run.weights import CONFIG_FILE, load_weights, read_folder
from spiritlm.units.vq_whisper import VqWhisper, VqWhisperConfig

OURS_OF_PUBLISHED = {
    "encoder.ema_count": "encoder.codebook.ema_count",
    "encoder.ema_weight": "encoder.codebook.ema_weight",
}
SHAPES = (
    "d_model",
    "num_mel_bins",
    "max_source_positions",
    *(f"{part}_{name}" for part in ("encoder", "decoder") for name in ("layers", "attention_heads", "ffn_dim")),
)
DECODER_SHAPES = ("max_target_positions", "vocab_size", "pad_token_id", "decoder_start_token_id")


def is_published(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a published VQ-Whisper."""
    return "type" not in config and "quantize_vocab_size" in config


def published_config(config: Mapping[str, Any], encoder_only: bool = True) -> VqWhisperConfig:
    """`config.json` of a published VQ-Whisper as ours; `encoder_only`: without what stands behind the codebook."""
    _require_gelu(config, CONFIG_FILE)
    known = {name: value for name, value in config.items() if name in VqWhisperConfig.model_fields}
    only = encoder_only or config.get("quantize_encoder_only", False)
    told = {**known, "mel_floor": None, "quantize_encoder_only": only, "ctc_letters": ""}
    return validate_recipe(VqWhisperConfig, {**told, **({"decoder_layers": 0} if only else {})}, CONFIG_FILE)


def _require_gelu(config: Mapping[str, Any], source: str) -> None:
    """What `scale_embedding` says changes nothing: transformers' Whisper computes the scale and does not use it."""
    if (found := config.get("activation_function", "gelu")) != "gelu":
        raise InputError(f"{source}: activation_function is {found!r}, expected 'gelu'")


def published_weights(model: VqWhisper, tensors: Mapping[str, torch.Tensor], path: Path) -> VqWhisper:
    """`model` with the weights of a published file. Raises `InputError` for one that does not fit."""
    ours: dict[str, torch.Tensor] = {}
    wanted = model.state_dict()
    for name, tensor in tensors.items():
        name = name.removeprefix("model.")
        name = OURS_OF_PUBLISHED.get(name, name)
        if name in wanted or not _left_out(name, model.config):
            ours[name] = tensor.float()
    if "encoder.codebook.updates" in wanted:
        ours["encoder.codebook.updates"] = torch.zeros((), dtype=torch.int64)
    return load_weights(model, ours, path)


def _left_out(name: str, config: VqWhisperConfig) -> bool:
    """Whether a published weight belongs to a part that `config` does without."""
    part, *rest = name.split(".")
    if part in ("decoder", "proj_out"):
        return not config.decoder_layers or part == "proj_out"
    behind = rest[:1] == ["layers"] and int(rest[1]) >= config.quantize_position
    return config.quantize_encoder_only and (behind or rest[:1] == ["layer_norm"])


def read_published(folder: Path, encoder_only: bool = True) -> VqWhisper:
    """The model of a published folder (`glm-4-voice-tokenizer`: `config.json`, `model.safetensors`), with Whisper's own
    mel floor. Raises `InputError` for another kind of folder."""
    config = read_json(folder / CONFIG_FILE)
    if not is_published(config):
        raise InputError(f"{folder / CONFIG_FILE}: expected the config.json of a VQ-Whisper: no quantize_vocab_size")
    model = VqWhisper(published_config(config, encoder_only))
    return published_weights(model, read_folder(folder), folder)


def whisper_shape(folder: Path, decoder: bool) -> dict[str, Any]:
    """What a Hugging Face Whisper folder says about the sizes of a `VqWhisperConfig`; `decoder`: with its decoder's.

    Raises `InputError` for another kind of folder.
    """
    config = read_json(folder / CONFIG_FILE)
    if config.get("model_type") != "whisper":
        raise InputError(f"{folder / CONFIG_FILE}: model_type is {config.get('model_type')!r}, expected 'whisper'")
    missing = [name for name in (*SHAPES, *DECODER_SHAPES) if name not in config]
    if missing:
        raise InputError(f"{folder / CONFIG_FILE}: expected a Whisper with {missing[0]}")
    _require_gelu(config, str(folder / CONFIG_FILE))
    wanted = (*SHAPES, *DECODER_SHAPES) if decoder else tuple(n for n in SHAPES if not n.startswith("decoder_"))
    return {name: config[name] for name in wanted if name in config}


def start_from_whisper(model: VqWhisper, folder: Path) -> None:
    """Give `model` the weights of a Hugging Face Whisper folder; its codebook, its CTC head and, as published, its
    second positions (the first rows of the first) are its own. Raises `InputError` for weights that do not fit."""
    state = model.state_dict()
    new = {k: v for k, v in state.items() if k.startswith(("encoder.codebook.", "ctc."))}
    found = {name.removeprefix("model."): tensor.float() for name, tensor in read_folder(folder).items()}
    kept = {k: v for k, v in found.items() if k in state or not _left_out(k, model.config)}
    positions = kept.get("encoder.embed_positions.weight", torch.zeros(0, 1))
    second = positions[: len(model.encoder.embed_positions2.weight)].clone()
    load_weights(model, {**new, **kept, "encoder.embed_positions2.weight": second}, folder)
