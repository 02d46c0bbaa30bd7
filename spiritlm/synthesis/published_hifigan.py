"""Spirit LM's published vocoders: `config.json`, `generator.pt`, `speakers.txt`, and `styles.txt` of the base one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spiritlm.config import validate_recipe
from spiritlm.synthesis.unit_hifigan import UnitHifiganShape


def published_hifigan(config: Mapping[str, Any], source: str = "config.json") -> UnitHifiganShape:
    """Raises `KeyError` for a value that is absent and `InputError` for one that does not fit."""
    durations = config.get("dur_predictor_params") or {}
    table = {
        "units": config["num_embeddings"],
        "pitch_units": config.get("num_f0_tokens") or 0,
        "style_units": config.get("num_style_tokens") or 0,
        "speakers": config["num_speakers"] if config.get("multispkr") else 0,
        "styles": config["num_styles"] if config.get("multistyle") else 0,
        "embedding": config["embedding_dim"],
        "channels": config["upsample_initial_channel"],
        "up_rates": config["upsample_rates"],
        "up_kernels": config["upsample_kernel_sizes"],
        "kernels": config["resblock_kernel_sizes"],
        "dilations": config["resblock_dilation_sizes"],
        "sample_rate": config["sampling_rate"],
        "pitch_hop": config.get("f0_hop_size", 1280),
        "style_hop": config.get("style_hop_size", 16_000),
        "duration_width": durations.get("var_pred_hidden_dim", 0),
        "duration_kernel": durations.get("var_pred_kernel_size", 3),
        "duration_dropout": durations.get("var_pred_dropout", 0.5),
    }
    return validate_recipe(UnitHifiganShape, table, source)
