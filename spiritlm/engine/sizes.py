"""One dial for models from scratch: the number of layers, from which the rest follows.

    hidden size      64 times the layers (GPT-2's and LLaMA's ratio, between 12 layers of 768 and 32 of 4,096)
    heads            of 64 channels under 1,024 hidden, of 128 from there on
    feed-forward     8/3 of the hidden size, rounded up to a multiple of 64
    learning rate    1.2e-3 at 768 hidden, falling with the root of the hidden size
    batch            64 k tokens at 10 M parameters, growing with the root of the parameters; a power of two of rows
    steps            20 tokens a parameter (Hoffmann et al. 2022)

The parameters meant are those of the layers; a vocabulary is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

HEAD_CHANNELS, WIDE = 64, 1024
TOKENS_PER_PARAMETER = 20


def with_size(fields: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The fields of a recipe, with those that `layers` implies where they are missing."""
    hidden = 64 * layers
    channels = 2 * HEAD_CHANNELS if hidden >= WIDE and layers % 2 == 0 else HEAD_CHANNELS
    ffn = -(-8 * hidden // 3 // 64) * 64
    training = _table(fields, "training")
    length = _number(training, "sequence_length", 2048)
    model = {
        "hidden_size": hidden, "layers": layers, "heads": hidden // channels, "kv_heads": hidden // channels,
        "ffn_hidden_size": ffn, "max_position_embeddings": max(2048, length),
    }  # fmt: skip
    parameters = layers * (4 * hidden**2 + 3 * hidden * ffn)
    rows = 2 ** max(3, round(math.log2(2**16 * (parameters / 1e7) ** 0.5 / length)))
    rows = _number(training, "global_batch_size", rows)
    steps = max(1, round(TOKENS_PER_PARAMETER * parameters / (rows * length)))
    derived = {"sequence_length": length, "micro_batch_size": 1, "global_batch_size": rows, "steps": steps}
    implied = {"model": model, "training": derived, "optimizer": {"lr": 1.2e-3 * (768 / hidden) ** 0.5}}
    whole = {name: {**table, **_table(fields, name)} for name, table in implied.items()}
    return {**fields, **{name: table for name, table in whole.items() if isinstance(fields.get(name, {}), Mapping)}}


def _table(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the recipe gives of a table; nothing where it is none, which is reported of the whole recipe."""
    given = fields.get(name, {})
    return dict(given) if isinstance(given, Mapping) else {}


def _number(table: Mapping[str, Any], name: str, default: int) -> int:
    given = table.get(name, default)
    return given if isinstance(given, int) and given > 0 else default
