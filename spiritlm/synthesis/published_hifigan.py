"""Spirit LM's published vocoders: `config.json`, `generator.pt`, `speakers.txt`, and `styles.txt` of the base one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spiritlm.config import validate_recipe
from spiritlm.errors import InputError
from spiritlm.run.files import read_json
from spiritlm.run.weights import CONFIG_FILE, load_weights, read_pt
from spiritlm.synthesis.published import current_names
from spiritlm.synthesis.unit_decoder import UnitDecoder, UnitDecoderConfig
from spiritlm.synthesis.unit_hifigan import UnitHifigan, UnitHifiganShape

WEIGHTS_FILE, SPEAKERS_FILE, STYLES_FILE = "generator.pt", "speakers.txt", "styles.txt"


def read_hifigan(folder: Path) -> UnitDecoder:
    """A published folder. In the expressive one, styles are called by the numbers of their units. Raises `InputError`
    where one of its files is absent or not what its configuration says."""
    source = folder / CONFIG_FILE
    published = read_json(source)
    try:
        shape = published_hifigan(published, str(source))
    except KeyError as error:
        raise InputError(f"{source}: not the configuration of a unit vocoder: {error} is absent") from None
    styles = _names(folder / STYLES_FILE) if shape.styles else tuple(map(str, range(shape.style_units)))
    table = {
        "shape": shape,
        "speakers": _names(folder / SPEAKERS_FILE) if shape.speakers else ("default",),
        "default_speaker": published.get("default_speaker", 0) if shape.speakers else 0,
        "styles": styles,
        "default_style": published.get("default_style", 0) if shape.styles else 0,
        "style_units": range(shape.style_units),
    }
    config = validate_recipe(UnitDecoderConfig, table, str(folder))
    found = read_pt(folder / WEIGHTS_FILE)
    weights = found.get("generator") if isinstance(found, dict) else None
    if not isinstance(weights, dict):
        raise InputError(f"{folder / WEIGHTS_FILE}: expected tensors by name under 'generator'")
    return UnitDecoder(load_weights(UnitHifigan(shape), current_names(weights), folder / WEIGHTS_FILE), config)


def _names(path: Path) -> tuple[str, ...]:
    """One a line."""
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: expected a text file with a name on each line") from None


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
        "duration_width": durations.get("var_pred_hidden_dim", 0),
        "duration_kernel": durations.get("var_pred_kernel_size", 3),
        "duration_dropout": durations.get("var_pred_dropout", 0.5),
    }
    return validate_recipe(UnitHifiganShape, table, source)
